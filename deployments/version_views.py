"""Changing a deployment in the browser: its settings, and one step back."""

from uuid import UUID

from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from accounts.http import TeamRequest, team_required
from accounts.roles import MAKERS
from deployments import operations, status, updating
from deployments.change_forms import ChangeForm
from deployments.errors import BadOption, NotNow, Unlicensed
from deployments.models import Deployment

MAY_NOT = "Your role may look at deployments, not change them."


@team_required
@require_http_methods(["GET", "POST"])
def deployment_settings(request: TeamRequest, pk: UUID) -> HttpResponse:
    report = status.watched(request.team, pk)
    if report is None:
        raise Http404
    deployment = report.row
    if request.membership.role not in MAKERS:
        return render(request, "403.html", {"reason": MAY_NOT}, status=403)
    form = ChangeForm(request.POST or None, deployment=deployment)
    if request.method == "POST" and form.is_valid() and _change(request, deployment, form):
        return redirect("deployment-detail", pk)
    context = {"form": form, "deployment": deployment, "report": report}
    return render(request, "deployments/settings.html", context, status=400 if form.errors else 200)


@require_POST
@team_required
def deployment_rollback(request: TeamRequest, pk: UUID) -> HttpResponse:
    """To the version whose number the form has, or to the one before; while an update is tried, that is taken back."""
    deployment = _own(request, pk)
    if request.membership.role not in MAKERS:
        return render(request, "403.html", {"reason": MAY_NOT}, status=403)
    asked = request.POST.get("version", "")
    number = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 7 else None
    try:
        version = updating.rollback(deployment, actor=request.user.email, number=number)
    except (BadOption, NotNow, Unlicensed) as error:
        messages.error(request, str(error))
    else:
        messages.success(request, f"Back to {version}; it is tried first, and calls are answered meanwhile.")
    return redirect("deployment-detail", pk)


def _change(request: TeamRequest, deployment: Deployment, form: ChangeForm) -> bool:
    actor = request.user.email
    try:
        with transaction.atomic():
            operations.change(deployment, actor=actor, **form.elastic)
            version = updating.update(deployment, actor=actor, **form.change)
    except BadOption as error:
        form.add_error(error.option if error.option in form.fields else None, str(error))
        return False
    except (NotNow, Unlicensed) as error:
        form.add_error(None, str(error))
        return False
    if version:
        messages.success(request, f"Version {version.number} is tried beside the one that takes the calls.")
    else:
        messages.success(request, "Changed; it holds from now on.")
    return True


def _own(request: TeamRequest, pk: UUID) -> Deployment:
    """The team's own, or 404: another team's does not exist here."""
    related = ("team", "model", "weights__base", "hardware", "version__weights__base")
    return get_object_or_404(Deployment.objects.of(request.team).select_related(*related), pk=pk)
