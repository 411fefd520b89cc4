"""The model library and a model's page."""

from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from accounts.http import TeamRequest, team_required
from catalog import library, measurements, snippets
from catalog.models import Provider

PAGE_SIZE = 60
LOOKED = "looked_at_a_model"
"""In the session of somebody who has opened a model's page: the first of a new team's steps."""


@require_safe
@team_required
def model_list(request: TeamRequest) -> HttpResponse:
    visible = library.visible_to(request.team)
    asked = {name: values for name, values in request.GET.lists() if any(values)}
    found = library.search(visible, asked)
    page = Paginator(found, PAGE_SIZE).get_page(request.GET.get("page"))
    context = {
        "page": page,
        "entries": library.entries(page.object_list),
        "facets": library.facets(visible),
        "asked": asked,
        "q": request.GET.get("q", ""),
        "query": _without_page(request),
    }
    part = "#results" if request.htmx and not request.htmx.boosted else ""  # type: ignore[attr-defined]
    return render(request, f"catalog/library.html{part}", context)


@require_safe
@team_required
def model_detail(request: TeamRequest, slug: str) -> HttpResponse:
    model = get_object_or_404(library.visible_to(request.team), slug=slug)
    if LOOKED not in request.session:
        request.session[LOOKED] = True
    (entry,) = library.entries([model])
    base_url = request.build_absolute_uri("/v1")
    hosted = entry.hosted_offer
    context = {
        "entry": entry,
        "model": model,
        "snippets": snippets.of(model.slug, base_url=base_url),
        "measured": measurements.of_model(model, team=request.team),
        "is_hosted_here": bool(hosted and hosted.provider and hosted.provider.wire == Provider.Wire.PLATFORM),
    }
    return render(request, "catalog/model.html", context)


def _without_page(request: TeamRequest) -> str:
    query = request.GET.copy()
    query.pop("page", None)
    return query.urlencode()
