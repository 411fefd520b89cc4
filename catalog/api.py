"""/api/v1/models: the library for programs."""

from typing import Any

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.drf import Pages, team_of
from catalog import finding, library, shelf
from catalog.library import Entry, Quote

FILTERS = [
    OpenApiParameter("q", str, description="Words, or their beginnings; where none has them, names that are near."),
    *(
        OpenApiParameter(name, str, many=True, enum=list(finding.LABELS[name]) if name in finding.LABELS else None)
        for name in finding.FACETS
    ),
    OpenApiParameter("sort", str, enum=shelf.SORTS),
]


class PriceSerializer(serializers.Serializer[Any]):
    meter = serializers.CharField()
    unit_price = serializers.CharField(help_text="USD for one unit, an exact decimal.")
    quoted_price = serializers.CharField(help_text="USD for what `quoted` says.")
    quoted = serializers.CharField()
    currency = serializers.CharField()
    source = serializers.CharField()  # type: ignore[assignment]
    source_date = serializers.DateField()


class OfferSerializer(serializers.Serializer[Any]):
    path = serializers.ChoiceField(["hosted", "serverless"])
    available = serializers.BooleanField()
    reason = serializers.CharField()
    provider = serializers.CharField(required=False)
    hardware = serializers.CharField(required=False)
    prices = PriceSerializer(many=True)


class ModelSerializer(serializers.Serializer[Any]):
    slug = serializers.CharField()
    name = serializers.CharField()
    publisher = serializers.CharField()
    openness = serializers.CharField()
    licence = serializers.DictField()
    modalities = serializers.ListField(child=serializers.CharField())
    context_tokens = serializers.IntegerField(allow_null=True)
    description = serializers.CharField()
    source = serializers.CharField()  # type: ignore[assignment]
    source_date = serializers.DateField()
    offers = OfferSerializer(many=True)


class ModelList(APIView):
    """The library's own search: within a facet any of the values fits (of `modality` all must), across them all."""

    @extend_schema(responses=ModelSerializer(many=True), parameters=FILTERS)
    def get(self, request: Request) -> Response:
        team = team_of(request)
        found = finding.find(team, finding.asked(dict(request.query_params.lists())))
        pages = Pages()
        slugs = [found.shelf.items[number].slug for number in _page(pages, found.numbers, request)]
        rows = {model.slug: model for model in library.visible_to(team).filter(slug__in=slugs)}
        entries = library.entries(rows[slug] for slug in slugs if slug in rows)
        return pages.get_paginated_response([as_json(entry) for entry in entries])


class ModelDetail(APIView):
    @extend_schema(responses=ModelSerializer)
    def get(self, request: Request, slug: str) -> Response:
        model = get_object_or_404(library.visible_to(team_of(request)), slug=slug)
        return Response(as_json(library.entries([model])[0]))


def _page(pages: Pages, numbers: list[int], request: Request) -> list[int]:
    """Of a list, as of rows of the database."""
    return pages.paginate_queryset(numbers, request) or []  # type: ignore[type-var,arg-type]


def as_json(entry: Entry) -> dict[str, Any]:
    model = entry.model
    return {
        "slug": model.slug,
        "name": model.name,
        "publisher": model.publisher,
        "openness": model.openness,
        "licence": {
            "name": str(model.licence),
            "spdx_id": model.licence.spdx_id or None,
            "url": model.licence.url,
            "commercial_use": model.licence.commercial_use,
        },
        "modalities": model.modalities,
        "context_tokens": model.context_tokens,
        "description": model.description,
        "source": model.source,
        "source_date": model.source_date.isoformat(),
        "offers": _offers(entry),
    }


def _offers(entry: Entry) -> list[dict[str, Any]]:
    hosted = {
        "path": "hosted",
        "available": entry.hosted.is_open,
        "reason": entry.hosted.reason,
        "prices": [_price(quote) for quote in entry.token_prices],
    }
    if entry.hosted_offer and entry.hosted_offer.provider:
        hosted["provider"] = entry.hosted_offer.provider.slug
    serverless = [
        {
            "path": "serverless",
            "available": entry.deployable.is_open,
            "reason": entry.deployable.reason,
            "hardware": hardware.slug,
            "prices": [_price(quote)] if quote else [],
        }
        for hardware, quote in entry.hardware
    ]
    closed = {"path": "serverless", "available": False, "reason": entry.deployable.reason, "prices": []}
    return [hosted, *(serverless or [closed])]


def _price(quote: Quote) -> dict[str, str]:
    return {
        "meter": quote.meter,
        "unit_price": quote.exact,
        "quoted_price": f"{quote.amount:f}",
        "quoted": f"per {quote.quoted}",
        "currency": "USD",
        "source": quote.source,
        "source_date": quote.source_date,
    }
