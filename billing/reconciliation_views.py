"""Providers' files against the ledger. It goes over all teams, so it is for the portal's staff alone."""

import functools
from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from accounts.http import TeamRequest, team_required
from billing import reconciliation
from billing.errors import BadFile
from billing.forms import ProviderFileForm
from billing.models import ProviderImport


def staff_required(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """For others the page does not exist."""

    @team_required
    @functools.wraps(view)
    def wrapper(request: TeamRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_staff:
            raise Http404("for the portal's staff")
        return view(request, *args, **kwargs)

    return wrapper


@require_http_methods(["GET", "HEAD", "POST"])
@staff_required
def imports(request: TeamRequest) -> HttpResponse:
    form = ProviderFileForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        try:
            if given["file"].size > reconciliation.LARGEST_BYTES:
                raise BadFile(f"the file is larger than {reconciliation.LARGEST_BYTES // 1_000_000} MB")
            source = reconciliation.read_in(
                given["file"].read(), filename=given["file"].name, actor=request.user.email, names=given["names"]
            )
        except BadFile as error:
            form.add_error("file", f"Nothing was kept: {error}.")
        else:
            messages.success(request, f"{source.rows} rows were read.")
            return redirect("reconciliation-report", source.pk)
    context = {"form": form, "imports": ProviderImport.objects.all()[:50]}
    return render(request, "billing/reconciliation.html", context, status=400 if form.errors else 200)


@require_safe
@staff_required
def report(request: TeamRequest, pk: int) -> HttpResponse:
    source = get_object_or_404(ProviderImport, pk=pk)
    found = reconciliation.report(source)
    every = request.GET.get("rows") == "all"
    drifts = found.drifts if every else found.apart
    context = {"report": found, "source": source, "every": every, "drifts": drifts[: reconciliation.SHOWN]}
    return render(request, "billing/reconciliation_report.html", context)
