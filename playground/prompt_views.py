"""The pages of saved prompts, and what the chat page saves."""

from uuid import UUID

from django.contrib import messages
from django.db.models import Count, Max
from django.http import HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from accounts.http import TeamRequest, team_required
from playground import prompts
from playground.forms import PromptForm
from playground.models import PromptVersion, SavedPrompt
from playground.prompts import Content

MOST_LISTED = 500
LOOKS_NOT_SAVES = "Your role in this team may look at prompts, not save or change them."


@require_safe
@team_required
def prompt_list(request: TeamRequest) -> HttpResponse:
    rows = SavedPrompt.objects.seen_by(request.team, request.user).select_related("author")
    if query := request.GET.get("q", "").strip()[:80]:
        rows = rows.filter(name__icontains=query)
    rows = rows.annotate(many=Count("versions"), newest=Max("versions__number"))[:MOST_LISTED]
    context = {"prompts": rows, "query": query, "may_make": prompts.may_make(request.membership)}
    return render(request, "playground/prompts.html", context)


@require_safe
@team_required
def prompt_detail(request: TeamRequest, pk: UUID) -> HttpResponse:
    """A prompt, one of its versions, and how that differs from the one before or another."""
    prompt = _seen(request, pk)
    versions = list(prompt.versions.all())
    shown = _of_number(versions, request.GET.get("version", "")) or versions[0]
    before = _of_number(versions, request.GET.get("with", "")) or _of_number(versions, str(shown.number - 1))
    context = {
        "prompt": prompt,
        "versions": versions,
        "shown": shown,
        "lines": prompts.lines(shown),
        "before": before,
        "difference": list(prompts.compared(before, shown)) if before and before != shown else [],
        "may_make": prompts.may_make(request.membership),
        "may_manage": prompts.may_manage(prompt, request.membership),
    }
    return render(request, "playground/prompt.html", context)


@require_POST
@team_required
def prompt_save(request: TeamRequest, pk: UUID | None = None) -> JsonResponse:
    """A new prompt, or the next version of one: {"id", "number", "href"}. 400 says what is wrong with it."""
    if not prompts.may_make(request.membership):
        return JsonResponse({"message": LOOKS_NOT_SAVES}, status=403)
    prompt = _seen(request, pk) if pk else None
    form = PromptForm({**request.POST.dict(), "name": prompt.name} if prompt else request.POST)
    if not form.is_valid():
        first = next(iter(form.errors.items()))
        where = "" if first[0] == "__all__" else f"{first[0].capitalize()}: "
        return JsonResponse({"message": f"{where}{first[1][0]}"}, status=400)
    if prompt:
        number = prompts.add_version(prompt, request.membership, form.content).number
        return JsonResponse({"id": str(prompt.pk), "name": prompt.name, "number": number})
    made = prompts.create(
        request.membership, name=form.cleaned_data["name"], is_shared=form.cleaned_data["is_shared"],
        content=form.content,
    )  # fmt: skip
    return JsonResponse({"id": str(made.pk), "name": made.name, "number": 1}, status=201)


@require_POST
@team_required
def prompt_restore(request: TeamRequest, pk: UUID, number: int) -> HttpResponse:
    """An earlier version's words as the newest."""
    prompt = _seen(request, pk)
    if not prompts.may_make(request.membership):
        return _forbidden(request)
    old = get_object_or_404(prompt.versions, number=number)
    content = Content(old.system, old.message, old.parameters, old.tried_with, f"As version {old.number}")
    version = prompts.add_version(prompt, request.membership, content)
    messages.success(request, f"Version {version.number} says what version {old.number} said.")
    return redirect("prompt-detail", pk=pk)


@require_POST
@team_required
def prompt_change(request: TeamRequest, pk: UUID) -> HttpResponse:
    """Share it or make it private, or give it another name."""
    prompt = _seen(request, pk)
    if not prompts.may_manage(prompt, request.membership):
        return _forbidden(request)
    if name := request.POST.get("name", "").strip()[:80]:
        prompts.rename(prompt, request.membership, name)
    if wish := request.POST.get("shared", ""):
        prompts.share(prompt, request.membership, is_shared=wish == "yes")
        what = "shared with the team" if wish == "yes" else "private: only its author sees it"
        messages.success(request, f"{prompt.name} is {what}.")
    still_seen = SavedPrompt.objects.seen_by(request.team, request.user).filter(pk=pk).exists()
    return redirect("prompt-detail", pk=pk) if still_seen else redirect("prompt-list")


@require_POST
@team_required
def prompt_delete(request: TeamRequest, pk: UUID) -> HttpResponse:
    prompt = _seen(request, pk)
    if not prompts.may_manage(prompt, request.membership):
        return _forbidden(request)
    prompts.delete(prompt, request.membership)
    messages.success(request, f"{prompt.name} and its versions are deleted.")
    return redirect("prompt-list")


def _seen(request: TeamRequest, pk: UUID) -> SavedPrompt:
    """404 for another team's, and for what somebody else keeps to themselves."""
    rows = SavedPrompt.objects.seen_by(request.team, request.user).select_related("team", "author")
    return get_object_or_404(rows, pk=pk)


def _of_number(versions: list[PromptVersion], asked: str) -> PromptVersion | None:
    return next((version for version in versions if str(version.number) == asked), None)


def _forbidden(request: TeamRequest) -> HttpResponse:
    reason = LOOKS_NOT_SAVES if not prompts.may_make(request.membership) else "This prompt is its author's to change."
    return render(request, "403.html", {"reason": reason}, status=403)
