"""Holds the ledger against what a provider says: drift by model and day, and what was not measured or not billed.

It compares quantities, for they are facts of both sides; costs are shown beside them, the provider's as it asks and
the ledger's as it charges. Models are matched by their names without dates and dots, or by the names given at the
import. What was corrected is compared as it is charged now, on the day of its usage whenever it was corrected, and is
listed with the reason. Nothing is changed by it: what is wrong is corrected by billing.corrections.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection, transaction
from django.db.models import Count, Q, QuerySet, Sum
from django.db.models.functions import Coalesce, TruncDate

from billing import coverage, provider_files, rating
from billing.errors import BadFile
from billing.models import LedgerEntry, ProviderImport, ProviderUsage, Reservation, UsageEvent
from billing.models.usage import UsagePath

LARGEST_BYTES = 20_000_000
SHOWN = 500
# Classes that we tell apart and providers' files do not.
FOLDED = {
    "tokens.output.reasoning": "tokens.output",
    "tokens.output.batch": "tokens.output",
    "tokens.input.batch": "tokens.input",
    "tokens.input.image": "tokens.input",
}
# The sweep ends a call where its lease ran out.
_ESTIMATED = """
SELECT (v.started_at AT TIME ZONE 'UTC')::date, v.source,
       CASE WHEN v.ended_at = r.lease_until AND r.closed_at > r.lease_until
            THEN 'the gateway died and left nothing but what it had said some seconds before'
            WHEN v.raw_usage IS NOT NULL THEN 'cut off after the provider''s last count'
            ELSE 'cut off before the provider reported any usage, or it reported none' END AS reason, count(*)
FROM billing_usageevent v LEFT JOIN billing_reservation r ON r.id = v.id
WHERE v.path = 'hosted' AND v.quality = 'estimated' AND v.started_at >= %s AND v.started_at < %s
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
_UNPRICED = """
SELECT (v.started_at AT TIME ZONE 'UTC')::date, v.source, q.key, count(*), sum(q.value::numeric)
FROM billing_usageevent v CROSS JOIN LATERAL jsonb_each_text(v.quantities) q
WHERE v.path = 'hosted' AND v.started_at >= %s AND v.started_at < %s AND q.value::numeric > 0
AND NOT EXISTS (SELECT FROM billing_ledgerentry e WHERE e.event_id = v.id AND e.meter = q.key)
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""


@dataclass(frozen=True, slots=True)
class Drift:
    """One UTC day, model and meter: what the ledger has and what the provider says. None: one side says nothing."""

    day: date
    model: str
    meter: str
    ours: Decimal | None
    theirs: Decimal | None
    charged: Decimal | None
    asked: Decimal | None

    @property
    def difference(self) -> Decimal:
        """More than 0: the ledger has more than the provider."""
        return (self.ours or Decimal(0)) - (self.theirs or Decimal(0))

    @property
    def percent(self) -> Decimal | None:
        """Of what the provider says; None where it says nothing."""
        return (100 * self.difference / self.theirs).quantize(Decimal("0.01")) if self.theirs else None

    @property
    def agrees(self) -> bool:
        """The quantities are equal. Costs are two prices of the same, so they are not asked."""
        return self.difference == 0


@dataclass(frozen=True, slots=True)
class Unsure:
    """Events of one day and source that were not billed, or not by what was measured, or corrected, and why."""

    day: date
    source: str
    events: int
    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """`coverage`: percent of the provider's quantities that the ledger has, rounded down, None where it tells
    none; `measured`: percent of the
    ledger's events that were measured; `unknown`: models that only the provider knows."""

    source: ProviderImport
    drifts: tuple[Drift, ...]
    unsure: tuple[Unsure, ...]
    coverage: Decimal | None
    measured: Decimal
    events: int
    unknown: tuple[str, ...]

    @property
    def apart(self) -> tuple[Drift, ...]:
        return tuple(drift for drift in self.drifts if not drift.agrees)


def read_in(content: bytes, *, filename: str, actor: str, names: Mapping[str, str] | None = None) -> ProviderImport:
    """Keep a provider's file. `names`: its names of models -> ours, where they differ. The same file again is the
    import that it was. Raises BadFile; then nothing is kept."""
    if len(content) > LARGEST_BYTES:
        raise BadFile(f"the file is larger than {LARGEST_BYTES // 1_000_000} MB")
    digest = hashlib.sha256(content + repr(sorted((names or {}).items())).encode()).hexdigest()
    if before := ProviderImport.objects.filter(sha256=digest).first():
        return before
    try:
        parsed = provider_files.parse(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BadFile("the file is not UTF-8 text") from error
    with transaction.atomic():
        source = ProviderImport.objects.create(
            provider=parsed.provider,
            filename=filename[:200],
            sha256=digest,
            first_day=min(row.day for row in parsed.rows),
            last_day=max(row.day for row in parsed.rows),
            rows=len(parsed.rows),
            skipped=list(parsed.skipped[:100]),
            names=dict(names or {}),
            imported_by=actor,
        )
        ProviderUsage.objects.bulk_create(
            [
                ProviderUsage(
                    source=source,
                    day=row.day,
                    model=row.model[:160],
                    meter=row.meter,
                    quantity=row.quantity,
                    cost=row.cost,
                )
                for row in parsed.rows
            ],
            batch_size=2000,
        )
    return source


def report(source: ProviderImport) -> Report:
    begins = datetime.combine(source.first_day, time.min, UTC)
    ends = datetime.combine(source.last_day + timedelta(days=1), time.min, UTC)
    theirs = _theirs(source)
    models = {model for _, model, _ in theirs}
    whole = {model for _, model, meter in theirs if not meter}
    ours = _ours(begins, ends, models, whole=whole)
    drifts = [
        _drift(key, ours.get(key, _NEITHER), theirs.get(key, _NEITHER)) for key in sorted(ours.keys() | theirs.keys())
    ]
    events = UsageEvent.objects.filter(path=UsagePath.HOSTED, started_at__gte=begins, started_at__lt=ends)
    counted = events.aggregate(all=Count("pk"), estimated=Count("pk", filter=Q(quality="estimated")))
    return Report(
        source=source,
        drifts=tuple(drifts),
        unsure=tuple(_unsure(begins, ends)),
        coverage=_coverage(drifts),
        measured=coverage.percent_of(counted["all"], counted["estimated"]),
        events=counted["all"],
        unknown=tuple(sorted(models - {model for _, model, _ in ours})),
    )


_Key = tuple[date, str, str]
_Sums = tuple[Decimal | None, Decimal | None]


_NEITHER: _Sums = (None, None)


def _drift(key: _Key, ours: _Sums, theirs: _Sums) -> Drift:
    return Drift(*key, ours=ours[0], theirs=theirs[0], charged=ours[1], asked=theirs[1])


def _theirs(source: ProviderImport) -> dict[_Key, _Sums]:
    names = {provider_files.known_name(theirs): ours for theirs, ours in source.names.items()}
    summed: dict[_Key, _Sums] = {}
    for row in ProviderUsage.objects.filter(source=source).order_by("pk"):
        known = provider_files.known_name(row.model)
        meter = FOLDED.get(row.meter, row.meter)
        key = (row.day, provider_files.known_name(names.get(known, known)), meter)
        summed[key] = _added(summed.get(key), (row.quantity, row.cost))
    return summed


def _ours(begins: datetime, ends: datetime, models: set[str], *, whole: set[str]) -> dict[_Key, _Sums]:
    """What the ledger charges for those models by now; `whole`: the provider tells their cost alone, so all meters are
    one."""
    usage = LedgerEntry.objects.filter(path=UsagePath.HOSTED, kind="usage", at__gte=begins, at__lt=ends)
    names = ("day", "sku", "meter")
    first, second = (
        found.order_by().values_list(*names).annotate(quantity_sum=Sum("quantity"), cost=Sum("amount"))
        for found in (usage.annotate(day=TruncDate("at", tzinfo=UTC)), _corrections(begins, ends))
    )
    summed: dict[_Key, _Sums] = {}
    for day, sku, meter, quantity, amount in first.union(second, all=True):
        model = provider_files.known_name(sku)
        if model in models:
            key = (day, model, "" if model in whole else FOLDED.get(meter, meter))
            summed[key] = _added(summed.get(key), (None if model in whole else quantity, amount))
    return summed


def _corrections(begins: datetime, ends: datetime) -> "QuerySet[Any]":
    """Those of the usage of these days, each with the `day` of what it corrects: a row, or a class of an event that had
    no price."""
    rows = LedgerEntry.objects.filter(path=UsagePath.HOSTED, kind="correction")
    used_at = Coalesce("corrects__at", "event__started_at")
    return rows.annotate(used_at=used_at, day=TruncDate(used_at, tzinfo=UTC)).filter(
        used_at__gte=begins, used_at__lt=ends
    )


def _added(held: _Sums | None, more: _Sums) -> _Sums:
    if held is None:
        return more
    first, second = (
        a if b is None else b if a is None else rating.add([a, b]) for a, b in zip(held, more, strict=True)
    )
    return first, second


def _coverage(drifts: list[Drift]) -> Decimal | None:
    theirs = rating.add(drift.theirs or Decimal(0) for drift in drifts)
    if not theirs:
        return None
    found = rating.add(min(drift.ours or Decimal(0), drift.theirs or Decimal(0)) for drift in drifts)
    return Decimal(int(found * 1000 / theirs)) / 10


def _unsure(begins: datetime, ends: datetime) -> list[Unsure]:
    """What was estimated, corrected, had no price or was never billed; by day and source, at most SHOWN."""
    with connection.cursor() as cursor:
        cursor.execute(_ESTIMATED, [begins, ends])
        found = [Unsure(day, source, many, "estimated", reason) for day, source, reason, many in cursor.fetchall()]
        cursor.execute(_UNPRICED, [begins, ends])
        found += [
            Unsure(day, source, many, f"{quantity.normalize():f} {meter}", "not billed: no price when the call began")
            for day, source, meter, many, quantity in cursor.fetchall()
        ]
    corrected = _corrections(begins, ends).order_by().values_list("day", "source", "meter", "reason")
    found += [
        Unsure(day, source, many, _by_how_much(meter, quantity), f"corrected: {reason}")
        for day, source, meter, reason, many, quantity in corrected.annotate(
            many=Count("event", distinct=True), changed=Sum("quantity")
        )
    ]
    void = Reservation.objects.filter(
        path=UsagePath.HOSTED, state=Reservation.State.VOID, started_at__gte=begins, started_at__lt=ends
    ).annotate(day=TruncDate("started_at", tzinfo=UTC))
    found += [
        Unsure(day, source, many, "void", "not billed: the call failed before its first byte")
        for day, source, many in void.order_by().values_list("day", "source").annotate(many=Count("pk"))
    ]
    return sorted(found, key=lambda one: (one.day, one.source, one.what))[:SHOWN]


def _by_how_much(meter: str, quantity: Decimal) -> str:
    return f"{quantity.normalize():+f} {meter}" if quantity else f"the price of {meter}"
