"""What is added to the ledger because a row of it was wrong. Nothing is changed: the wrong is taken back by a row of
its own, the right is another, and both say why and point at what they correct.

A correction counts on the day of what it corrects while that day's month lasts; afterwards on the day it is made, so
that a month that is over stays as it was.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import orjson
from django.db import connection, transaction
from django.utils import timezone

from accounts import audit
from billing import money, periods, rating
from billing.errors import BadCorrection
from billing.models import LedgerEntry, Reservation
from billing.rating import Line
from billing.sql import MOVE

_ONE_AT_A_TIME = 0x636F7272
_NAMES = (
    "event_id",
    "path",
    "sku",
    "source",
    "model_name",
    "deployment_name",
    "api_key_name",
    "member",
    "tag",
    "meter",
)


@dataclass(frozen=True, slots=True)
class Fix:
    """A row (`about`) whose standing lines are to be replaced by `right`; none: it should not have been charged."""

    about: LedgerEntry
    standing: tuple[Line, ...]
    right: tuple[Line, ...]


def correct(
    entry: LedgerEntry, *, quantity: Decimal, unit_price: Decimal, reason: str, actor: str
) -> list[LedgerEntry]:
    """Charge this usage row as `quantity` x `unit_price` instead of what stands now, corrections before counted in.
    Nothing is written when that is what stands. Raises BadCorrection."""
    if entry.kind != LedgerEntry.Kind.USAGE:
        raise BadCorrection("Correct the usage row; a correction of a correction is another correction of it.")
    if not reason.strip():
        raise BadCorrection("Say why: it stands on the team's bill.")
    lines = rating.rate({entry.meter: quantity}, {entry.meter: unit_price}) if quantity else ()
    with transaction.atomic():
        one_at_a_time()
        stands = standing(entry)
        before = rating.add(line.amount for line in stands)
        rows = write([Fix(entry, stands, lines)], reason=reason)
        move(rows)
        if rows:
            difference = rating.add(row.amount for row in rows)
            audit.record(
                entry.team, actor=actor, verb="corrected the row",
                subject=f"{entry.pk} by {money.plain(difference)} USD: {reason}",
                before={"usd": money.plain(before)},
                after={"usd": money.plain(rating.add([before, difference])), "reason": reason},
            )  # fmt: skip
    return rows


def one_at_a_time() -> None:
    """Whoever is about to look at what stands waits here for others who correct: what stands is taken back once. Until
    the transaction's end; calls wait for none of it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_ONE_AT_A_TIME])


def standing(entry: LedgerEntry) -> tuple[Line, ...]:
    """What a usage row is charged as now: itself and its corrections, netted for each price."""
    return netted(entry.meter, [entry, *entry.corrections.order_by("pk")])


def netted(meter: str, rows: Iterable[LedgerEntry]) -> tuple[Line, ...]:
    net: dict[tuple[Decimal, Decimal | None, Decimal | None], Decimal] = {}
    for row in rows:
        key = (row.unit_price, row.list_price, row.discount)
        net[key] = rating.add([net.get(key, Decimal(0)), row.quantity])
    return tuple(
        Line(meter, quantity, price, rating.EXACT.multiply(quantity, price), before, percent)
        for (price, before, percent), quantity in net.items()
        if quantity
    )


def write(fixes: Iterable[Fix], *, reason: str) -> list[LedgerEntry]:
    """Add the rows that make each right, in the caller's transaction, which has to `move` them. Standing lines that
    are right stay. What was written."""
    now = timezone.now()
    return LedgerEntry.objects.bulk_create(row for fix in fixes for row in _rows(fix, reason=reason[:200], now=now))


def move(rows: Iterable[LedgerEntry]) -> None:
    """Move the counters by these rows. It locks the teams' counters until the transaction ends: do it last."""
    written = list(rows)
    calls = {
        row.pk: row
        for row in Reservation.objects.filter(pk__in={row.event_id for row in written}).only("api_key_id", "alias")
    }
    sums: dict[tuple[object, ...], Decimal] = {}
    for row in written:
        call = calls.get(row.event_id) if row.event_id else None
        month = periods.month_at(row.at, row.team.time_zone).first
        key, alias = (call.api_key_id, call.alias) if call else (None, "")
        scope = (row.team_id, key, row.deployment_name, alias, month, row.corrects.at if row.corrects else row.at)
        sums[scope] = rating.add([sums.get(scope, Decimal(0)), row.amount])
    names = ("team_id", "api_key_id", "deployment_name", "alias", "month", "started_at")
    given = [dict(zip(names, scope, strict=True)) | {"settled": format(sum_, "f")} for scope, sum_ in sums.items()]
    if given:
        with connection.cursor() as cursor:
            cursor.execute(MOVE, [orjson.dumps(given, default=str).decode()])


def _rows(fix: Fix, *, reason: str, now: datetime) -> list[LedgerEntry]:
    wrong = [line for line in fix.standing if line not in fix.right]
    right = [line for line in fix.right if line not in fix.standing]
    return [_row(fix.about, line, -1, reason, now) for line in wrong] + [
        _row(fix.about, line, 1, reason, now) for line in right
    ]


def _row(about: LedgerEntry, line: Line, sign: int, reason: str, now: datetime) -> LedgerEntry:
    quantity = line.quantity if sign > 0 else line.quantity.copy_negate()
    return LedgerEntry(
        team=about.team,
        **{name: getattr(about, name) for name in _NAMES},
        kind=LedgerEntry.Kind.CORRECTION,
        at=_day_of(about, now),
        quantity=quantity,
        unit_price=line.unit_price,
        list_price=line.list_price,
        discount=line.discount,
        amount=rating.EXACT.multiply(quantity, line.unit_price),
        reason=reason,
        quality=about.quality,
        uncached_price=about.uncached_price if line.uncached_price is None else line.uncached_price,
        corrects=about if about.pk else None,
    )


def _day_of(about: LedgerEntry, now: datetime) -> datetime:
    month = periods.month_at(now, about.team.time_zone)
    return about.at if month.begins <= about.at < month.ends else now
