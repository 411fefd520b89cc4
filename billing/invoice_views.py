"""The team's invoices: the list, one on a page or on paper, and how they are written and mailed."""

import re

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from accounts import audit
from accounts.http import TeamRequest, team_required
from accounts.roles import KEEPERS
from billing import heads, invoice_pdf, invoicing, money, periods
from billing.coverage import Coverage
from billing.forms import InvoiceSettingsForm
from billing.invoice_lines import sections
from billing.models import Invoice, StatementMail


@require_safe
@team_required
def invoices(request: TeamRequest) -> HttpResponse:
    wish = StatementMail.objects.filter(team=request.team).first()
    given = {"address": wish.address, "emails": ", ".join(wish.emails)} if wish else {}
    return _listed(request, InvoiceSettingsForm(initial=given))


@require_POST
@team_required
def invoice_settings(request: TeamRequest) -> HttpResponse:
    if request.membership.role not in KEEPERS:
        return render(request, "403.html", {"reason": "Your role may not change how invoices are sent."}, status=403)
    form = InvoiceSettingsForm(request.POST)
    if not form.is_valid():
        return _listed(request, form, status=400)
    before = dict(StatementMail.objects.filter(team=request.team).values("emails", "address").first() or {})
    StatementMail.objects.update_or_create(team=request.team, defaults=form.cleaned_data)
    said = ", ".join(form.cleaned_data["emails"]) or "nobody"
    audit.record(
        request.team, actor=request.user.email, verb="set who gets the invoices", subject=said, before=before,
        after={name: form.cleaned_data[name] for name in ("emails", "address")},
    )  # fmt: skip
    messages.success(request, f"Saved. Invoices are mailed to {said}.")
    return redirect("invoices")


@require_safe
@team_required
def invoice(request: TeamRequest, name: str) -> HttpResponse:
    found = _found(request, name)
    context = {
        "invoice": found,
        "sections": sections(found),
        "due": money.dollars(found.due),
        "exact": money.plain(found.total),
        "head": heads.of(found),
        "share": Coverage(found.events, found.estimated).percent,
        "mail": getattr(found, "mail", None),
    }
    return render(request, "billing/invoice.html", context)


@require_safe
@team_required
def invoice_as_pdf(request: TeamRequest, name: str) -> HttpResponse:
    found = _found(request, name)
    answer = HttpResponse(invoice_pdf.render(found), content_type="application/pdf")
    answer.headers["content-disposition"] = f'inline; filename="{found.name}.pdf"'
    return answer


def _found(request: TeamRequest, name: str) -> Invoice:
    number = re.fullmatch(r"MP-([0-9]{6,9})", name)
    if number is None:
        raise Http404("no such invoice")
    found: Invoice = get_object_or_404(Invoice, team=request.team, number=int(number[1]))
    return found


def _listed(request: TeamRequest, form: InvoiceSettingsForm, *, status: int = 200) -> HttpResponse:
    current = periods.month_at(timezone.now(), request.team.time_zone)
    context = {
        "invoices": Invoice.objects.filter(team=request.team).select_related("mail"),
        "form": form,
        "may_keep": request.membership.role in KEEPERS,
        "month": current,
        "closes_at": current.ends + invoicing.grace(),
    }
    return render(request, "billing/invoices.html", context, status=status)
