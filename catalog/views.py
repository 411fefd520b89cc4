"""The model library, the comparison, and a model's page."""

from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlencode

from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts import keys
from accounts.http import TeamRequest, team_required
from accounts.models import ApiKey
from billing import usage
from catalog import finding, library, measurements, snippets, standing
from catalog.finding import Asked, Facet, Found
from catalog.library import Entry
from catalog.models import Provider, Weights
from catalog.standing import Running

LOOKED = "looked_at_a_model"
"""In the session of somebody who has opened a model's page: the first of a new team's steps."""
PAGE_SIZE = 24
MOST_COMPARED = 4
USED_DAYS = 30
SORTS = {
    "relevance": "Best match", "name": "Name", "price_in": "Input price", "price_out": "Output price",
    "context": "Longest context", "newest": "Newest here",
}  # fmt: skip
TABS = {"overview": "Overview", "use": "Use", "versions": "Versions", "licence": "Licence", "usage": "Your usage"}


@dataclass(frozen=True, slots=True)
class Chip:
    """A filter that is on, and the address without it. `left`: how many models there would be, if none are now."""

    label: str
    address: str
    left: int | None


@require_safe
@team_required
def model_list(request: TeamRequest) -> HttpResponse:
    search = finding.asked(dict(request.GET.lists()))
    found = finding.find(request.team, search)
    page = Paginator(found.numbers, PAGE_SIZE).get_page(request.GET.get("page"))
    items = [found.shelf.items[number] for number in page.object_list]
    states = standing.at_a_glance(request.team, [item.pk for item in items])
    view = "list" if request.GET.get("view") == "list" else "grid"
    context = {
        "page": page,
        "pages": list(page.paginator.get_elided_page_range(page.number, on_each_side=1, on_ends=1)),
        "cards": [(item, states.get(item.pk)) for item in items],
        "found": found,
        "search": search,
        "chips": _chips(search, found, view),
        "sorts": SORTS.items(),
        "view": view,
        "views": [("grid", "Cards", _address(search, "grid")), ("list", "List", _address(search, "list"))],
        "address": _address(search, view),
        "most_compared": MOST_COMPARED,
    }
    if not request.htmx or request.htmx.boosted:  # type: ignore[attr-defined]
        return render(request, "catalog/library.html", context)
    answer = render(request, "catalog/library.html#found", context)
    answer.headers["HX-Replace-Url"] = _address(search, view)
    return answer


@require_safe
@team_required
def model_compare(request: TeamRequest) -> HttpResponse:
    """Up to four models side by side; those that do not exist here are left out."""
    slugs = list(dict.fromkeys(request.GET.getlist("m")))[:MOST_COMPARED]
    rows = {model.slug: model for model in library.visible_to(request.team).filter(slug__in=slugs)}
    entries = library.entries(rows[slug] for slug in slugs if slug in rows)
    states = standing.at_a_glance(request.team, [entry.model.pk for entry in entries])
    kept = [entry.model.slug for entry in entries]
    columns = [
        (entry, states.get(entry.model.pk), urlencode([("m", slug) for slug in kept if slug != entry.model.slug]))
        for entry in entries
    ]
    context = {
        "columns": columns, "missing": len(slugs) - len(entries), "most": MOST_COMPARED,
        "cheapest_in": _least([entry.input.amount for entry in entries if entry.input]),
        "cheapest_out": _least([entry.output.amount for entry in entries if entry.output]),
        "cheapest_hour": _least([entry.cheapest_hour.amount for entry in entries if entry.cheapest_hour]),
        "longest": max((entry.model.context_tokens or 0 for entry in entries), default=0) if len(entries) > 1 else 0,
    }  # fmt: skip
    return render(request, "catalog/compare.html", context)


@require_safe
@team_required
def model_detail(request: TeamRequest, slug: str) -> HttpResponse:
    """A page of tabs; each asks for what it shows and no more."""
    model = get_object_or_404(library.visible_to(request.team), slug=slug)
    if LOOKED not in request.session:
        request.session[LOOKED] = True
    (entry,) = library.entries([model])
    tab = request.GET.get("tab", "overview")
    tab = tab if tab in TABS else "overview"
    context = {"entry": entry, "model": model, "tab": tab, "tabs": TABS.items()}
    context |= {
        "overview": _overview, "use": _use, "versions": _versions, "licence": _licence, "usage": _usage
    }[tab](request, entry)  # fmt: skip
    part = "#body" if request.htmx and not request.htmx.boosted else ""  # type: ignore[attr-defined]
    return render(request, f"catalog/model.html{part}", context)


def _overview(request: TeamRequest, entry: Entry) -> dict[str, object]:
    hosted = entry.hosted_offer
    return {
        "running": standing.running(request.team, entry.model.pk),
        "measured": measurements.of_model(entry.model, team=request.team),
        "is_hosted_here": bool(hosted and hosted.provider and hosted.provider.wire == Provider.Wire.PLATFORM),
    }


def _use(request: TeamRequest, entry: Entry) -> dict[str, object]:
    """Code for one of the model's names here, with the name of one of the caller's keys."""
    running = standing.running(request.team, entry.model.pk)
    names = _names(entry, running)
    known = keys.at_hand(request.team, request.user)
    name = request.GET.get("as", "")
    name = name if name in names else next(iter(names), entry.model.slug)
    key = next((one for one in known if one.prefix == request.GET.get("key")), next(iter(known), None))
    return {
        "snippets": snippets.of(name, base_url=request.build_absolute_uri("/v1"), key=snippets.words_of(key)),
        "names": names, "name": name, "keys": known, "key": key,
    }  # fmt: skip


def _versions(request: TeamRequest, entry: Entry) -> dict[str, object]:
    rows = Weights.objects.kept().filter(model=entry.model, team__in=[request.team]) | Weights.objects.kept().filter(
        model=entry.model, team=None
    )
    deployable = entry.deployable_offer
    return {"versions": rows.order_by("-version"), "deployed_first": deployable.weights_id if deployable else None}


def _licence(request: TeamRequest, entry: Entry) -> dict[str, object]:
    visible = Weights.objects.kept().filter(model=entry.model).exclude(licence=None).select_related("licence", "team")
    own = [row for row in visible.order_by("-version") if row.team_id in {None, request.team.pk}]
    return {"weights_with_licence": own}


def _usage(request: TeamRequest, entry: Entry) -> dict[str, object]:
    since = timezone.now() - timedelta(days=USED_DAYS)
    uses = usage.of_model(request.team, sku=entry.model.sku, model_name=entry.model.name, since=since)
    makers: dict[str, set[str]] = {}
    for name, email in ApiKey.objects.filter(team=request.team).values_list("name", "created_by__email"):
        makers.setdefault(name, set()).add(email or "a command")
    dearest = max((use.amount for use in uses), default=0)
    return {
        "uses": [
            (use, sorted(makers.get(use.api_key_name, ())), float(use.amount / dearest * 100) if dearest else 0.0)
            for use in uses
        ],
        "used_total": sum(use.amount for use in uses),
        "used_in": sum(use.tokens_in for use in uses),
        "used_out": sum(use.tokens_out for use in uses),
        "used_days": USED_DAYS,
    }


def _names(entry: Entry, running: list[Running]) -> dict[str, str]:
    """What a caller can write as `model` -> which path that is."""
    names = {entry.model.slug: f"hosted by {entry.hosted_offer.provider}"} if entry.hosted_offer else {}
    return names | {one.endpoint_model: f"your deployment on {one.hardware}, {one.status}" for one in running}


def _least(amounts: list[object]) -> object:
    """What to mark as the best; nothing where there is nothing to compare."""
    return min(amounts) if len(amounts) > 1 else None  # type: ignore[type-var]


def _chips(search: Asked, found: Found, view: str) -> list[Chip]:
    facets: dict[str, Facet] = {facet.name: facet for facet in found.facets}
    chips = []
    if search.q:
        chips.append(Chip(f"“{search.q}”", _address(Asked("", search.facets, search.sort), view), None))
    for name, values in search.facets.items():
        labels = {choice.value: choice.label for choice in facets[name].choices}
        for value in values:
            rest = tuple(one for one in values if one != value)
            others = {**search.facets, name: rest} if rest else {k: v for k, v in search.facets.items() if k != name}
            label = f"{facets[name].title}: {labels.get(value, value)}"
            chips.append(Chip(label, _address(Asked(search.q, others, search.sort), view), found.without.get(name)))
    return chips


def _address(search: Asked, view: str) -> str:
    """The library at this search, without a page: what people send each other."""
    pairs = [("q", search.q)] if search.q else []
    pairs += [(name, value) for name, values in search.facets.items() for value in values]
    pairs += [("sort", search.sort)] if search.sort != "relevance" else []
    pairs += [("view", view)] if view != "grid" else []
    return f"{reverse('model-list')}?{urlencode(pairs)}" if pairs else reverse("model-list")
