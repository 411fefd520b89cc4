"""/weights: the team's weights, their import from the Hub, and a card for each."""

from uuid import UUID

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.http import TeamRequest, team_required
from accounts.roles import MAKERS
from catalog import cards, hub_tokens, huggingface, importing, removing, restating, tasks
from catalog.errors import CatalogError, HubError, InUse, Refused
from catalog.models import HubToken, Weights
from catalog.uploads import drafts
from catalog.weights_forms import ImportForm, NotesForm, TermsForm, TokenForm

ON_A_PAGE = 50


@require_safe
@team_required
def weights_list(request: TeamRequest) -> HttpResponse:
    """A page of them, or the part that a poll asks for; it asks no more once nothing moves."""
    page = Paginator(cards.of(request.team), ON_A_PAGE).get_page(request.GET.get("page"))
    rows = [cards.card(row) for row in page]
    context = {
        "cards": rows,
        "page": page,
        # "No weights yet" must not be all that somebody reads whose upload waits; others find it on the upload's page.
        "unfinished": [] if rows else drafts.unfinished(request.team),
        "any_in_motion": any(one.row.is_in_motion for one in rows),
        "may_change": request.membership.role in MAKERS,
        "api_url": request.build_absolute_uri("/api/v1"),
    }
    part = "#rows" if request.htmx and not request.htmx.boosted else ""  # type: ignore[attr-defined]
    return render(request, f"catalog/weights.html{part}", context)


@require_http_methods(["GET", "HEAD", "POST"])
@team_required
def weights_import(request: TeamRequest) -> HttpResponse:
    """GET looks at what `repo` names; POST begins the import of what was looked at, at its commit."""
    if request.method == "POST":
        return _begin(request)
    form = ImportForm(request.GET) if request.GET.get("repo") else ImportForm()
    if not form.is_bound or not form.is_valid():
        return _import_page(request, form)
    asked = form.cleaned_data
    try:
        found = importing.preflight(request.team, asked["repo"], revision=asked["revision"], file=asked["file"])
    except CatalogError as error:
        return _import_page(request, form, error=error)
    return render(request, "catalog/import.html", _common(request, form) | {"found": found})


@require_safe
@team_required
def weights_detail(request: TeamRequest, pk: UUID) -> HttpResponse:
    """The card, or the part of it that a poll asks for while they are on their way; then the page is asked anew.
    `?edit=terms` has the form for base and licence in it."""
    weights = _own(request, pk)
    is_poll = bool(request.htmx) and not request.htmx.boosted  # type: ignore[attr-defined]
    if is_poll and not weights.is_in_motion:
        return HttpResponse(headers={"HX-Refresh": "true"})
    edits_terms = request.GET.get("edit") == "terms" and not restating.why_not(weights, request.membership.role)
    return _card_page(
        request, weights, NotesForm({"notes": weights.notes}), part="#status" if is_poll else "",
        terms_form=TermsForm(weights=weights) if edits_terms and not is_poll else None,
    )  # fmt: skip


@require_POST
@team_required
def weights_notes(request: TeamRequest, pk: UUID) -> HttpResponse:
    weights = _own(request, pk)
    if request.membership.role not in MAKERS:
        return _not_allowed(request)
    form = NotesForm(request.POST)
    if not form.is_valid():
        return _card_page(request, weights, form, status=400)
    cards.annotate(weights, form.cleaned_data["notes"], actor=request.user.email)
    messages.success(request, "The notes are saved.")
    return redirect("weights-detail", pk)


@require_POST
@team_required
def weights_terms(request: TeamRequest, pk: UUID) -> HttpResponse:
    """Another base, another licence: from then on the licence gate goes by that."""
    weights = _own(request, pk)
    if reason := restating.why_not(weights, request.membership.role):
        return render(request, "403.html", {"reason": reason}, status=403)
    form = TermsForm(request.POST, weights=weights)
    if form.is_valid():
        try:
            restating.restate(weights, actor=request.user.email, **form.wish)
        except Refused as error:
            form.add_error(error.field if error.field in form.fields else None, str(error))
        else:
            messages.success(request, "Saved. Where the licence is another, deploying and calling ask about it again.")
            return redirect("weights-detail", pk)
    return _card_page(request, weights, NotesForm({"notes": weights.notes}), terms_form=form, status=400)


@require_POST
@team_required
def weights_retry(request: TeamRequest, pk: UUID) -> HttpResponse:
    weights = _own(request, pk)
    if request.membership.role not in MAKERS:
        return _not_allowed(request)
    try:
        importing.retry(weights, actor=request.user.email)
    except Refused as error:
        messages.error(request, str(error))
    else:
        tasks.ring(weights.pk)
    return redirect("weights-detail", pk)


@require_POST
@team_required
def weights_remove(request: TeamRequest, pk: UUID) -> HttpResponse:
    weights = _own(request, pk)
    if request.membership.role not in MAKERS:
        return _not_allowed(request)
    try:
        removing.remove(weights, actor=request.user.email)
    except InUse as error:
        messages.error(request, str(error))
        return redirect("weights-detail", pk)
    messages.success(request, f"{weights} is removed, and its files with it.")
    return redirect("weights-list")


@never_cache
@sensitive_post_parameters("token")
@require_POST
@team_required
def token_set(request: TeamRequest) -> HttpResponse:
    if request.membership.role not in MAKERS:
        return _not_allowed(request)
    form = TokenForm(request.POST)
    if form.is_valid():
        try:
            row = hub_tokens.keep(request.team, form.cleaned_data["token"], actor=request.user.email)
        except (Refused, HubError) as error:
            form.add_error("token", str(error))
        else:
            messages.success(request, f"The Hub says that this token is {row.account}'s. It is kept, encrypted.")
            return redirect(_back(request))
    return _import_page(request, ImportForm(), token_form=form, status=400)


@require_POST
@team_required
def token_remove(request: TeamRequest) -> HttpResponse:
    if request.membership.role not in MAKERS:
        return _not_allowed(request)
    hub_tokens.forget(request.team, actor=request.user.email)
    messages.success(request, "The Hub token is removed.")
    return redirect("weights-import")


def _begin(request: TeamRequest) -> HttpResponse:
    if request.membership.role not in MAKERS:
        return _not_allowed(request)
    form = ImportForm(request.POST)
    if not form.is_valid():
        return _import_page(request, form, status=400)
    asked = form.cleaned_data
    try:
        weights = importing.begin(
            request.team,
            asked["repo"],
            revision=asked["revision"],
            file=asked["file"],
            said=asked["said"],
            actor=request.user.email,
        )
    except CatalogError as error:
        return _import_page(request, form, error=error, status=400)
    tasks.ring(weights.pk)
    return redirect("weights-detail", weights.pk)


def _back(request: TeamRequest) -> str:
    """To the repository that was looked at when the token was missing."""
    repo = request.POST.get("repo", "")
    form = ImportForm({"repo": repo})
    query = f"?{form.query()}" if repo and form.is_valid() else ""
    return reverse("weights-import") + query


def _import_page(
    request: TeamRequest,
    form: ImportForm,
    *,
    error: CatalogError | None = None,
    token_form: TokenForm | None = None,
    status: int = 200,
) -> HttpResponse:
    context = _common(request, form) | {
        "error": error,
        "wants_token": isinstance(error, Refused) and error.code in {"gated_needs_token", "bad_token", "repo_missing"},
    }
    if token_form:
        context["token_form"] = token_form
    return render(request, "catalog/import.html", context, status=status)


def _common(request: TeamRequest, form: ImportForm) -> dict[str, object]:
    return {
        "form": form,
        "hub": huggingface.endpoint(),
        "token": HubToken.objects.filter(team=request.team).first(),
        "token_form": TokenForm(),
        "may_change": request.membership.role in MAKERS,
        "api_url": request.build_absolute_uri("/api/v1"),
    }


def _card_page(
    request: TeamRequest,
    weights: Weights,
    form: NotesForm,
    *,
    terms_form: TermsForm | None = None,
    part: str = "",
    status: int = 200,
) -> HttpResponse:
    context = {
        "terms_form": terms_form,
        "why_no_terms": restating.why_not(weights, request.membership.role),
        "card": cards.card(weights),
        "weights": weights,
        "form": form,
        # Not beside the form of terms: a page asks twelve questions at most.
        "versions": list(weights.model.weights.kept()) if not (part or terms_form) else [],
        "page": huggingface.page_of(weights.repo, weights.commit) if weights.repo else "",
        "may_change": request.membership.role in MAKERS,
    }
    return render(request, f"catalog/weights_card.html{part}", context, status=status)


def _own(request: TeamRequest, pk: UUID) -> Weights:
    """The team's own, or 404: another team's does not exist here."""
    return get_object_or_404(cards.of(request.team), pk=pk)


def _not_allowed(request: TeamRequest) -> HttpResponse:
    reason = "Your role may look at weights, not change them."
    return render(request, "403.html", {"reason": reason}, status=403)
