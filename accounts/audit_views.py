"""The audit log: a page with filters, and its file. For owners and admins."""

from urllib.parse import urlencode

from django.core.paginator import Paginator
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts import csv_rows, trail
from accounts.audit_forms import AuditForm
from accounts.http import TeamRequest, team_required
from accounts.roles import MANAGERS
from accounts.trail import Asked, Line
from accounts.views import refused

ON_A_PAGE = 50
REASON = "Only an owner or admin may read the audit log."


@require_safe
@team_required
def audit_log(request: TeamRequest) -> HttpResponse:
    if request.membership.role not in MANAGERS:
        return refused(request, REASON)
    form = AuditForm(request.GET)
    rows = trail.of_team(request.team, form.asked if form.is_valid() else Asked())
    page = Paginator(rows, ON_A_PAGE).get_page(request.GET.get("page"))
    asked = {name: text for name in form.fields if (text := request.GET.get(name))}
    context = {
        "form": form,
        "page": page,
        "lines": [Line(row) for row in page],
        "verbs": trail.verbs(request.team),
        "query": urlencode(asked),
        "is_filtered": bool(asked),
    }
    return render(request, "accounts/audit.html", context, status=200 if form.is_valid() else 400)


@require_safe
@team_required
def audit_csv(request: TeamRequest) -> HttpResponseBase:
    """The same rows, all of them, as they come from the database."""
    if request.membership.role not in MANAGERS:
        return refused(request, REASON)
    form = AuditForm(request.GET)
    if not form.is_valid():
        return audit_log(request)
    name = f"audit-{request.team.slug}-{timezone.now():%Y-%m-%d}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    rows = csv_rows.lines(trail.cells(trail.of_team(request.team, form.asked)))
    return StreamingHttpResponse(rows, content_type="text/csv; charset=utf-8", headers=headers)
