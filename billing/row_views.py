"""The ledger's rows behind a bar of the chart, and the chart's numbers as CSV."""

from collections.abc import Iterator
from datetime import datetime
from itertools import chain
from urllib.parse import urlencode
from uuid import UUID

from django.db.models import Count, Q, QuerySet, Sum
from django.http import Http404, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_safe

from accounts import csv_rows
from billing import asking, costs, downloads, periods, questions
from billing.asking import CostsRequest, costs_question
from billing.copying import safe
from billing.costs import Bucket, Standing
from billing.meters import METERS
from billing.models import LedgerEntry
from billing.statements import exact

ON_PAGE = 100
CHUNK = 2000
KINDS = dict(LedgerEntry.Kind.choices)
CHART_COLUMNS = ("from", "time_zone", "split_by", "value", "path", "kind", "cost", "currency")
COLUMNS = (
    "entry", "at", "local_time", "time_zone", "team", "kind", "path", "model", "deployment", "api_key", "member", "tag",
    "source", "meter", "quantity", "unit", "unit_price", "cost", "currency", "quality", "reason",
)  # fmt: skip

_Fields = dict[str, str | list[str]]


@require_safe
@costs_question
def rows_page(request: CostsRequest) -> HttpResponse:
    standing = asking.standing(request)
    bucket, found = _asked(request, standing)
    summed = found.aggregate(cost=Sum("amount"), many=Count("pk"))
    page = list(_after(found, request.GET.get("after", ""))[: ON_PAGE + 1])
    more = page[ON_PAGE - 1] if len(page) > ON_PAGE else None
    given = _fields(request)
    context = {
        "question": request.question,
        "bucket": bucket,
        "kind": KINDS.get(request.GET.get("kind", "")),
        "rows": page[:ON_PAGE],
        "cost": summed["cost"] or 0,
        "many": summed["many"],
        "zone": periods.zone_of(request.question.zone),
        "filters": _filters(request),
        "csv": _url(given),
        "first": _url(given) if request.GET.get("after") else "",
        "next": _url(given | {"after": f"{more.at.isoformat()}~{more.pk}"}) if more else "",
        "hours": _hours(request, bucket),
        "teams": request.teams,
    }
    return render(request, "billing/rows.html", context)


@require_safe
@costs_question
def rows_csv(request: CostsRequest) -> HttpResponseBase:
    standing = asking.standing(request)
    _, found = _asked(request, standing)
    name = f"modelport-rows-{request.question.first}-{request.question.last}.csv"
    slugs = {team.pk: team.slug for team in standing.teams}
    cells = _cells(found, request.question.zone, slugs)
    return downloads.stream(request, csv_rows.pieces(chain([COLUMNS], cells), size=CHUNK), name=name)


@require_safe
@costs_question
def chart_csv(request: CostsRequest) -> HttpResponseBase:
    """What the chart shows, undivided by its "others": a row for each bar or part of one, exact."""
    question, reading = request.question, costs.read(asking.standing(request))
    lines = (
        [bucket.at, question.zone, question.split, safe(one.value), one.path, one.kind, exact(cost), "USD"]
        for number, bucket in enumerate(reading.buckets)
        for one in reading.series
        if (cost := one.by_bucket.get(number)) is not None
    )
    name = f"modelport-chart-{question.first}-{question.last}-{question.split}.csv"
    return downloads.stream(request, csv_rows.pieces(chain([CHART_COLUMNS], lines), size=CHUNK), name=name)


def _asked(request: CostsRequest, standing: Standing) -> tuple[Bucket | None, QuerySet[LedgerEntry]]:
    buckets, at, kind = costs.buckets_of(standing), request.GET.get("at", ""), request.GET.get("kind", "")
    number = next((place for place, bucket in enumerate(buckets) if bucket.at == at), None)
    if (at and number is None) or (kind and kind not in KINDS):
        raise Http404("no such bar")
    but = questions.named_in(request.GET.getlist(questions.OTHER_THAN))
    found = costs.rows(standing, number, but=but).order_by("at", "pk")
    return (None if number is None else buckets[number]), found.filter(kind=kind) if kind else found


def _after(found: QuerySet[LedgerEntry], text: str) -> QuerySet[LedgerEntry]:
    """Those after the row that a page ended with."""
    if not text:
        return found
    moment, _, number = text.partition("~")
    try:
        at = parse_datetime(moment)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None or not (number.isascii() and number.isdigit() and len(number) < 19):
        raise Http404("no such page")
    return found.filter(Q(at__gt=at) | Q(at=at, pk__gt=int(number)))


def _fields(request: CostsRequest) -> _Fields:
    extra: _Fields = {name: request.GET[name] for name in ("at", "kind") if request.GET.get(name)}
    if others := request.GET.getlist(questions.OTHER_THAN):
        extra[questions.OTHER_THAN] = others
    return request.question.fields() | extra


def _url(fields: _Fields) -> str:
    return f"?{urlencode(fields, doseq=True)}"


def _filters(request: CostsRequest) -> list[tuple[str, str, str]]:
    """Each filter, and the URL without it."""
    asked, question = _fields(request), request.question

    def without(name: str) -> str:
        return _url({key: value for key, value in asked.items() if key != name})

    found = [
        (questions.SPLITS[name], question.named(name, value), without(name))  # type: ignore[index]
        for name, value in question.where.given().items()
    ]
    if left_out := questions.named_in(request.GET.getlist(questions.OTHER_THAN)):
        names = dict.fromkeys(question.named(question.split, thing.value) for thing in left_out)
        found.append((f"{question.split_label} other than", ", ".join(names), without(questions.OTHER_THAN)))
    return found


def _hours(request: CostsRequest, bucket: Bucket | None) -> str:
    """The chart of this day by its hours."""
    if bucket is None or bucket.start is None or request.question.step == "hour":
        return ""
    day = bucket.start.date()
    return f"?{urlencode(request.question.with_days(day, day).fields() | {'by': 'hour'})}"


def _cells(found: QuerySet[LedgerEntry], zone: str, slugs: dict[UUID, str]) -> Iterator[list[str]]:
    clock = periods.zone_of(zone)
    for row in found.iterator(CHUNK):
        texts = (row.model_name, row.deployment_name, row.api_key_name, row.member, row.tag, row.source)
        yield [
            str(row.pk), _utc(row.at), row.at.astimezone(clock).isoformat(), zone, safe(slugs[row.team_id]), row.kind,
            row.path, *map(safe, texts), row.meter, exact(row.quantity),
            METERS[row.meter].unit if row.meter in METERS else "", exact(row.unit_price), exact(row.amount),
            row.currency, row.quality, safe(row.reason),
        ]  # fmt: skip


def _utc(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"
