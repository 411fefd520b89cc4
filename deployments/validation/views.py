"""Prompt sets, a deployment's validation page, and the report of one run."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.http import TeamRequest, team_required
from accounts.roles import MAKERS
from catalog import measurements
from deployments import endpoints, status
from deployments.errors import NameTaken, NotNow
from deployments.models import Deployment
from deployments.status import Report
from deployments.validation import cases, reports, running, wishes
from deployments.validation.cases import BadCase
from deployments.validation.forms import Editor, PlanForm
from deployments.validation.models import PromptSet, ThroughputRun, ValidationPlan, ValidationRun

MAY_NOT = "Your role may read validations, not change or start them."
SHOWN_RUNS, SUGGESTED = 30, 100
BY_API = """curl {url}/prompt-sets \\
  -H "Authorization: Bearer $MODELPORT_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{{"name": "smoke", "cases": [{{
        "prompt": "Say hello.",
        "checks": [{{"kind": "regex", "value": "(?i)hello"}}]}}]}}'"""


@require_safe
@team_required
def set_list(request: TeamRequest) -> HttpResponse:
    context = {
        "sets": reports.sets(request.team),
        "may_change": _may_change(request),
        "text": BY_API.format(url=request.build_absolute_uri("/api/v1")),
    }
    return render(request, "deployments/validation/sets.html", context)


@team_required
@require_http_methods(["GET", "POST"])
def set_edit(request: TeamRequest, pk: UUID | None = None) -> HttpResponse:
    """The editor. Those who may not change read the same page, with nothing to press."""
    found = get_object_or_404(PromptSet.objects.of(request.team), pk=pk) if pk else None
    if not _may_change(request) and (request.method == "POST" or found is None):
        return _refused(request)
    editor = Editor(request.POST if request.method == "POST" else None, found=found)
    if request.method == "POST" and not editor.is_asked_for_rows and (saved := _saved(request, editor, found)):
        messages.success(request, f"{saved.name} is kept, edition {saved.edition.number}.")
        return redirect("prompt-set", saved.pk)
    wrong = request.method == "POST" and not editor.is_asked_for_rows
    context = {
        "editor": editor,
        "found": found,
        "may_change": _may_change(request),
        "names": endpoints.callable_names(request.team)[:SUGGESTED],
        "needs_model": sorted(cases.NEEDS_MODEL),
    }
    return render(request, "deployments/validation/set.html", context, status=400 if wrong else 200)


@require_POST
@team_required
def set_remove(request: TeamRequest, pk: UUID) -> HttpResponse:
    found = get_object_or_404(PromptSet.objects.of(request.team), pk=pk)
    if not _may_change(request):
        return _refused(request)
    try:
        wishes.remove_set(found, actor=request.user.email)
    except NotNow as error:
        messages.error(request, str(error))
        return redirect("prompt-set", pk)
    return redirect("prompt-set-list")


@team_required
@require_http_methods(["GET", "POST"])
def deployment_validation(request: TeamRequest, pk: UUID) -> HttpResponse:
    """What it is asked when, what came of it, and how fast it was; a post sets when."""
    report = status.watched(request.team, pk)
    if report is None:
        raise Http404
    row = report.row
    plan = ValidationPlan.objects.filter(deployment=row).select_related("prompt_set").first()
    if request.method == "POST" and not _may_change(request):
        return _refused(request)
    sets = list(PromptSet.objects.of(request.team))
    form = PlanForm(request.POST or None, team=request.team, sets=sets, plan=plan)
    if request.method == "POST" and form.is_valid():
        wishes.plan(row, **form.cleaned_data, actor=request.user.email)
        messages.success(request, "Kept; it holds from now on.")
        return redirect("deployment-validation", pk)
    context = _page(request, report) | {"form": form, "plan": plan, "sets": sets}
    if request.method == "GET" and request.htmx:  # type: ignore[attr-defined]
        return render(request, "deployments/validation/deployment.html#runs", context)
    return render(request, "deployments/validation/deployment.html", context, status=400 if form.errors else 200)


@require_POST
@team_required
def deployment_validate(request: TeamRequest, pk: UUID) -> HttpResponse:
    """Ask it now."""
    row = _own(request, pk)
    if not _may_change(request):
        return _refused(request)
    sets = PromptSet.objects.of(request.team)
    asked = sets.filter(pk=request.POST["set"]).first() if _is_uuid(request.POST.get("set", "")) else None
    if asked is None:
        messages.error(request, "Choose the prompt set to ask.")
        return redirect("deployment-validation", pk)
    try:
        run = wishes.validate(row, asked, actor=request.user.email)
    except NotNow as error:
        messages.error(request, str(error))
        return redirect("deployment-validation", pk)
    return redirect("validation-report", pk, run.pk)


@require_POST
@team_required
def deployment_measure(request: TeamRequest, pk: UUID) -> HttpResponse:
    row = _own(request, pk)
    if not _may_change(request):
        return _refused(request)
    _measure(request, row)
    return redirect("deployment-validation", pk)


@require_POST
@team_required
def platform_measure(request: TeamRequest, slug: str) -> HttpResponse:
    """The portal's own deployment of a model that it hosts; its operators may."""
    row = get_object_or_404(
        Deployment.objects.unsettled().select_related("team"), team__is_platform=True, model__slug=slug
    )
    if not request.user.is_staff:
        return _refused(request)
    _measure(request, row)
    return redirect("model-detail", slug)


@require_safe
@team_required
def validation_report(request: TeamRequest, pk: UUID, run: UUID) -> HttpResponse:
    row = _own(request, pk)
    context = {"deployment": row, "may_change": _may_change(request)} | reports.of_run(_run(row, run))
    part = "#report" if request.htmx else ""  # type: ignore[attr-defined]
    return render(request, f"deployments/validation/report.html{part}", context)


@require_POST
@team_required
def validation_call_off(request: TeamRequest, pk: UUID, run: UUID) -> HttpResponse:
    row = _own(request, pk)
    if not _may_change(request):
        return _refused(request)
    running.call_off(_run(row, run), actor=request.user.email)
    return redirect("validation-report", pk, run)


def _page(request: TeamRequest, report: Report) -> dict[str, Any]:
    row = report.row
    runs = list(reports.runs_of(row)[:SHOWN_RUNS])
    measurings = list(ThroughputRun.objects.filter(deployment=row)[:20])
    measuring = measurings[:3]
    measured = measurements.of_runs(one.pk for one in measurings)
    return {
        "deployment": row,
        "report": report,
        "may_change": _may_change(request),
        "runs": runs,
        "measuring": measuring[0] if measuring else None,
        "measured": sorted(measured.values(), key=lambda one: one.first.measured_at, reverse=True)[:3],
        "any_open": any(run.is_open for run in [*runs, *measuring]),
    }


def _saved(request: TeamRequest, editor: Editor, found: PromptSet | None) -> PromptSet | None:
    if not editor.is_valid():
        return None
    given = editor.form.cleaned_data
    try:
        return wishes.save_set(
            request.team,
            name=given["name"],
            note=given["note"],
            raw_cases=editor.cases,
            actor=request.user.email,
            found=found,
        )
    except BadCase as error:
        editor.tell(error)
    except NameTaken as error:
        editor.form.add_error("name", str(error))
    except NotNow as error:
        editor.form.add_error(None, str(error))
    return None


def _measure(request: TeamRequest, row: Deployment) -> None:
    try:
        wishes.measure(row, actor=request.user.email)
    except NotNow as error:
        messages.error(request, str(error))
    else:
        messages.success(request, f"{row.endpoint_model} is being measured; that takes half a minute or more.")


def _may_change(request: TeamRequest) -> bool:
    return request.membership.role in MAKERS


def _refused(request: TeamRequest) -> HttpResponse:
    return render(request, "403.html", {"reason": MAY_NOT}, status=403)


def _run(row: Deployment, pk: UUID) -> ValidationRun:
    return get_object_or_404(reports.runs_of(row), pk=pk)


def _own(request: TeamRequest, pk: UUID) -> Deployment:
    """The team's own, or 404: another team's does not exist here."""
    rows = Deployment.objects.of(request.team).select_related("team", "model", "version", "hardware")
    return get_object_or_404(rows, pk=pk)


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
