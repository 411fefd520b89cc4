"""/api/v1/usage and /api/v1/statements: the ledger for programs."""

from datetime import datetime
from typing import Any

from django.http import StreamingHttpResponse
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.drf import team_of
from billing import downloads, periods, rating, scope, usage
from billing.errors import BadMonth, NoParquet
from billing.meters import METERS
from billing.statements import FORMATS, exact
from billing.usage import Grouped

GROUPS = ("day", *usage.COLUMNS)


class UsageRowSerializer(serializers.Serializer[Any]):
    group = serializers.CharField(help_text="The value of what was grouped by.")
    meter = serializers.CharField()
    quantity = serializers.CharField(help_text="An exact decimal.")
    unit = serializers.CharField()
    cost = serializers.CharField(help_text="An exact decimal in USD.")
    currency = serializers.CharField()


class UsageSerializer(serializers.Serializer[Any]):
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    group_by = serializers.CharField()
    total_cost = serializers.CharField()
    results = UsageRowSerializer(many=True)


class UsageView(APIView):
    @extend_schema(
        responses=UsageSerializer,
        parameters=[
            OpenApiParameter("since", OpenApiTypes.STR, description="A date or a moment; the month's start if absent."),
            OpenApiParameter("until", OpenApiTypes.STR, description="A date or a moment, exclusive; now if absent."),
            OpenApiParameter("group_by", OpenApiTypes.STR, enum=list(GROUPS)),
        ],
    )
    def get(self, request: Request) -> Response:
        team, now = team_of(request), timezone.now()
        month = periods.month_at(now, team.time_zone)
        since = _moment(request, "since", team.time_zone) or month.begins
        until = _moment(request, "until", team.time_zone) or now
        group_by = request.query_params.get("group_by", "meter")
        if group_by not in GROUPS:
            raise ValidationError({"group_by": [f"Use one of {', '.join(GROUPS)}."]})
        rows = usage.grouped(team, group=group_by, since=since, until=until)
        return Response(
            {
                "since": since.isoformat(),
                "until": until.isoformat(),
                "group_by": group_by,
                "total_cost": exact(rating.add(row.cost for row in rows)),
                "results": [_usage_row(row) for row in rows],
            }
        )


class AnyFormat(BaseContentNegotiation):
    """`?format=` names the statement's format here, not a renderer's."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


class StatementView(APIView):
    content_negotiation_class = AnyFormat

    @extend_schema(
        responses={
            (200, "text/csv"): OpenApiTypes.STR,
            (200, "application/vnd.apache.parquet"): OpenApiTypes.BINARY,
        },
        parameters=[
            OpenApiParameter(
                "format",
                OpenApiTypes.STR,
                enum=list(FORMATS),
                description="plain: a row per day, source, key and meter. detail: a row per usage event and meter, "
                "chained by digests. focus: FOCUS 1.2. parquet: the detail, typed. Streamed.",
            )
        ],
    )
    def get(self, request: Request, month: str) -> StreamingHttpResponse:
        team = team_of(request)
        found = FORMATS.get(request.query_params.get("format", "plain"))
        if found is None:
            raise ValidationError({"format": [f"Use one of {', '.join(FORMATS)}."]})
        try:
            wanted = periods.month_named(month, team.time_zone)
        except BadMonth as error:
            raise ValidationError({"month": [str(error)]}) from error
        try:
            return downloads.answer(request._request, scope.of(team, wanted), found)
        except NoParquet as error:
            raise ValidationError({"format": [str(error)]}) from error


def _moment(request: Request, name: str, zone: str) -> datetime | None:
    text = request.query_params.get(name)
    if not text:
        return None
    try:
        if day := parse_date(text):
            return _within_reason(name, periods.start_of_day(day, zone))
        moment = parse_datetime(text.replace(" ", "+"))
    except (ValueError, OverflowError) as error:
        raise ValidationError({name: [f"{text[:40]!r} is no date: {error}."]}) from error
    if moment is None or moment.tzinfo is None:
        raise ValidationError({name: ["Write a date (2026-11-01) or a moment with its zone (2026-11-01T00:00:00Z)."]})
    return _within_reason(name, moment)


def _within_reason(name: str, moment: datetime) -> datetime:
    if not 1999 <= moment.year <= 2100:  # a day of 2000 begins in 1999 east of Greenwich
        raise ValidationError({name: ["Write a moment of the years 2000 to 2099."]})
    return moment


def _usage_row(row: Grouped) -> dict[str, str]:
    meter = METERS.get(row.meter)
    return {
        "group": row.value,
        "meter": row.meter,
        "quantity": exact(row.quantity),
        "unit": meter.unit if meter else "",
        "cost": exact(row.cost),
        "currency": "USD",
    }
