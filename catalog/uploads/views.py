"""/weights/upload: choose files, watch them go, say what they are, have them verified."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from accounts.http import TeamRequest, team_required
from accounts.models import Team
from accounts.roles import MAKERS
from catalog import finding
from catalog.models import Model
from catalog.uploads import drafts, storing, tasks
from catalog.uploads.errors import Refused
from catalog.uploads.forms import CardForm
from catalog.uploads.models import Draft, Upload
from catalog.uploads.stream import ROOT

SUGGESTED = 40


@require_safe
@team_required
def upload(request: TeamRequest) -> HttpResponse:
    found = {"drafts": drafts.unfinished(request.team), "files": []}
    return render(request, "catalog/upload.html", _common(request) | found)


@require_safe
@team_required
def draft_detail(request: TeamRequest, pk: UUID) -> HttpResponse:
    """The page, or the part of it that a poll asks for while the files are verified; then the page is asked anew."""
    draft = _own(request, pk)
    is_poll = bool(request.htmx)  # type: ignore[attr-defined]
    if is_poll and draft.status != Draft.Status.VERIFYING:
        return HttpResponse(headers={"HX-Refresh": "true"})
    partial = "#status" if is_poll else ""
    return render(request, f"catalog/upload.html{partial}", _of(request, draft, CardForm(team=request.team)))


@require_safe
@team_required
def bases(request: TeamRequest) -> JsonResponse:
    """The models that weights may be tuned from and that fit a search, those that can be deployed first."""
    return JsonResponse({"choices": _bases(request.team, request.GET.get("q", ""))})


@require_POST
@team_required
def draft_finish(request: TeamRequest, pk: UUID) -> HttpResponse:
    draft = _own(request, pk)
    if request.membership.role not in MAKERS:
        return _not_allowed(request)
    form = CardForm(request.POST, team=request.team)
    if form.is_valid():
        try:
            drafts.finish(draft, form.card(), actor=request.user.email)
        except Refused as error:
            form.add_error(None, str(error))
        else:
            tasks.ring(draft.pk)
            return redirect("draft-detail", pk)
    return render(request, "catalog/upload.html", _of(request, draft, form), status=400)


@require_POST
@team_required
def draft_give_up(request: TeamRequest, pk: UUID) -> HttpResponse:
    draft = _own(request, pk)
    if request.membership.role not in MAKERS:
        return _not_allowed(request)
    try:
        drafts.give_up(draft, actor=request.user.email)
    except Refused as error:
        messages.error(request, str(error))
        return redirect("draft-detail", pk)
    messages.success(request, f"{draft.name} was given up and its files were removed.")
    return redirect("weights-upload")


def _common(request: TeamRequest) -> dict[str, Any]:
    return {
        "uploads_url": ROOT,
        "tus_url": request.build_absolute_uri(ROOT),
        "may_upload": request.membership.role in MAKERS,
    }


def _of(request: TeamRequest, draft: Draft, form: CardForm) -> dict[str, Any]:
    files = drafts.files(draft)
    total = sum(row.length for row in files)
    return _common(request) | {
        "draft": draft,
        "files": files,
        "form": form,
        "total": total,
        "bases": _bases(request.team, "") if draft.status in {Draft.Status.OPEN, Draft.Status.REFUSED} else [],
        "is_whole": bool(files) and all(row.state == Upload.State.COMPLETE for row in files),
        "checked_percent": 100 * draft.checked_bytes // total if total else 0,
        "deploy": draft.weights if draft.weights and storing.is_deployable(draft.weights) else None,
    }


def _bases(team: Team, q: str) -> list[dict[str, str]]:
    search = finding.asked({"q": [q], "openness": [Model.Openness.OPEN_WEIGHT, Model.Openness.OWN_WEIGHTS]})
    found = finding.find(team, search)
    items = [found.shelf.items[number] for number in found.numbers[:SUGGESTED]]
    return [{"name": one.slug, "label": one.name} for one in items]


def _own(request: TeamRequest, pk: UUID) -> Draft:
    """The team's own, or 404: another team's does not exist here."""
    try:
        return drafts.find(request.team, pk)
    except Refused as error:
        raise Http404 from error


def _not_allowed(request: TeamRequest) -> HttpResponse:
    reason = "Your role may look at weights, not upload them."
    return render(request, "403.html", {"reason": reason}, status=403)
