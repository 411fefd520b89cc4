"""/api/v1/models/{slug}/measurements: how fast its weights were, and on what."""

from typing import Any

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.drf import Pages, team_of
from catalog import library, measurements
from catalog.measurements import Measured


class FiguresSerializer(serializers.Serializer[Any]):
    callers = serializers.IntegerField(help_text="How many called at once.")
    samples = serializers.IntegerField(help_text="How many calls that were.")
    prompt_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    first_token_ms = serializers.FloatField(help_text="The median of what one caller waits.")
    prefill_tokens_per_s = serializers.FloatField(
        allow_null=True, help_text="All callers together; null: they had to queue."
    )
    decode_tokens_per_s = serializers.FloatField(help_text="All callers together.")
    disturbed = serializers.BooleanField(help_text="Other calls were in flight meanwhile.")


class MeasuredSerializer(serializers.Serializer[Any]):
    revision = serializers.CharField(help_text="Of the weights.")
    hardware = serializers.CharField()
    engine = serializers.CharField()
    engine_version = serializers.CharField()
    options = serializers.DictField()
    measured_at = serializers.DateTimeField()
    figures = FiguresSerializer(many=True)


class ModelMeasurements(APIView):
    @extend_schema(responses=MeasuredSerializer(many=True))
    def get(self, request: Request, slug: str) -> Response:
        team = team_of(request)
        model = get_object_or_404(library.visible_to(team), slug=slug)
        pages = Pages()
        rows = pages.paginate_queryset(measurements.of_model(model, team=team), request, view=self)  # type: ignore[arg-type]
        return pages.get_paginated_response([_as_json(one) for one in rows or []])


def _as_json(one: Measured) -> dict[str, Any]:
    first = one.first
    return {
        "revision": first.weights.revision,
        "hardware": first.hardware_id,
        "engine": first.engine,
        "engine_version": first.engine_version,
        "options": first.options,
        "measured_at": first.measured_at.isoformat(),
        "figures": FiguresSerializer(one.rows, many=True).data,
    }
