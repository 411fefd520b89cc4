"""The only door for usage. `reserve` before a call, `settle` after it; `record_compute` for running weights.

These are the synchronous forms, each in a transaction (its own, or the caller's). The gateway uses
`billing.batching`, which drives the same plan for many callers in one transaction.
"""

import json
import uuid
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from accounts.models import Team
from billing import periods, posting, rating
from billing.errors import BillingError
from billing.meters import COMPUTE_SECONDS
from billing.posting import Call, LetIn, Receipt, Renewal, Row, Settlement, Statement, Void
from billing.sql import EXPIRED

__all__ = [
    "Call",
    "LetIn",
    "Receipt",
    "Settlement",
    "Slice",
    "Stretch",
    "compute_slices",
    "record_calls",
    "record_compute",
    "record_uptime",
    "renew",
    "reserve",
    "settle",
    "sweep",
    "void",
]

SLICE_S = 60
SWEEP_BATCH = 500
_SLICES = uuid.UUID("5b7d2d0e-6d0c-4d53-9c5e-0f3f7f4a9c11")

T = TypeVar("T")


def reserve(call: Call) -> LetIn:
    """Write down that a call may be made. Raises BudgetSpent, UnpricedMeter or BadQuantity, with nothing written."""
    let_in = _only(call)
    assert isinstance(let_in, LetIn)  # noqa: S101 - post() promises LetIn or an error for a Call
    return let_in


def settle(settlement: Settlement) -> Receipt:
    """Bill the call, once: settling a closed one writes nothing and gives the stored cost, `already=True`."""
    receipt = _only(settlement)
    assert isinstance(receipt, Receipt)  # noqa: S101 - post() promises a Receipt or an error for a Settlement
    return receipt


def record_calls(calls: Sequence[tuple[Call, Settlement]]) -> list[Receipt]:
    """Calls that are over already, each let in and billed as any other, all in one transaction or none. Raises what
    `reserve` and `settle` raise. One that was recorded before adds nothing."""
    with transaction.atomic():
        now = timezone.now()
        let_in = _drive(posting.post([call for call, _ in calls], now=now))
        receipts = _drive(posting.post([settlement for _, settlement in calls], now=now))
        for outcome in (*let_in, *receipts):
            if isinstance(outcome, BillingError):
                raise outcome
    return [receipt for receipt in receipts if isinstance(receipt, Receipt)]


def void(reservation_id: UUID) -> None:
    """The call failed before its first byte: release what it held. Safe to repeat; nothing after a settlement."""
    _only(Void(reservation_id))


def renew(estimates: Mapping[UUID, Mapping[str, Decimal]], *, lease_s: int) -> None:
    """Their owner is alive: the leases run on from now, and these are the usages to bill if it dies."""
    operations = [Renewal(key, estimate, lease_s) for key, estimate in estimates.items()]
    with transaction.atomic():
        _drive(posting.post(operations, now=timezone.now()))


def sweep(*, now: datetime) -> int:
    """Settle every open reservation whose owner let its lease run out, with its estimate and flagged so. How many."""
    swept = 0
    while True:
        with transaction.atomic():
            expired = _rows(Statement(EXPIRED, (now, SWEEP_BATCH)))
            outcomes = _drive(posting.post([_abandoned(row) for row in expired], now=now))
        swept += sum(isinstance(outcome, Receipt) for outcome in outcomes)
        if len(expired) < SWEEP_BATCH:
            return swept


@dataclass(frozen=True, slots=True)
class Slice:
    """A stretch of a replica's uptime inside one minute of UTC."""

    started_at: datetime
    ended_at: datetime

    @property
    def seconds(self) -> Decimal:
        """Exact, in microseconds."""
        span = self.ended_at - self.started_at
        return Decimal(span // timedelta(microseconds=1)).scaleb(-6)


def compute_slices(started_at: datetime, ended_at: datetime, *, final: bool) -> list[Slice]:
    """[started_at, ended_at) cut at full minutes of UTC; their seconds add up to it exactly.

    The last piece, shorter than to its minute's end, is given only when `final` (the replica has exited).
    """
    slices = []
    begin, end = started_at.astimezone(UTC), ended_at.astimezone(UTC)
    while begin < end:
        boundary = begin.replace(second=0, microsecond=0) + timedelta(seconds=SLICE_S)
        if boundary > end and not final:
            break
        slices.append(Slice(begin, min(boundary, end)))
        begin = boundary
    return slices


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A replica's uptime from `started_at` to `ended_at` on one meter, with the names and prices to bill it under."""

    replica_id: UUID
    team: Team
    sku: str
    source: str
    model_name: str
    deployment_name: str
    started_at: datetime
    ended_at: datetime
    prices: Mapping[str, Decimal]
    meter: str = COMPUTE_SECONDS.name


def record_compute(**facts: Any) -> None:
    """Bill one Stretch, given by its fields."""
    record_uptime([Stretch(**facts)])


def record_uptime(stretches: Iterable[Stretch]) -> None:
    """Bill all stretches in one statement, as slices with ids of their own; in the caller's transaction. A slice that
    was billed before adds nothing, so overlapping and repeated calls are harmless as long as they end at a full minute
    of UTC, at the replica's first Ready or at its exit."""
    writing, now = posting.Writing(), timezone.now()
    for stretch in stretches:
        for piece in compute_slices(stretch.started_at, stretch.ended_at, final=True):
            _plan_slice(stretch, piece, writing, now=now)
    if writing:
        with transaction.atomic():
            _rows(writing.statement())


def _plan_slice(stretch: Stretch, piece: Slice, writing: posting.Writing, *, now: datetime) -> None:
    quantities = {stretch.meter: piece.seconds}
    lines = rating.rate(quantities, stretch.prices)
    event = {
        "id": uuid.uuid5(_SLICES, f"{stretch.replica_id}/{piece.started_at.isoformat()}"),
        "team_id": stretch.team.pk,
        "month": periods.month_at(piece.started_at, stretch.team.time_zone).first,
        "started_at": piece.started_at,
        "ended_at": piece.ended_at,
        "recorded_at": now,
        "path": "serverless",
        "sku": stretch.sku,
        "source": stretch.source,
        "model_name": stretch.model_name,
        "deployment_name": stretch.deployment_name,
        "api_key_name": "",
        "api_key_id": None,
        "member": "",
        "tag": "",
        "alias": "",
        "quality": "measured",
        "quantities": posting.texts(quantities),
        "raw_usage": None,
        "cost": format(rating.total(lines), "f"),
    }
    posting.plan_event(writing, event, lines)


def _abandoned(row: Row) -> Settlement:
    quantities = {meter: Decimal(quantity) for meter, quantity in json.loads(row[1]).items()}
    return Settlement(id=row[0], quantities=quantities, quality="estimated", ended_at=row[2])


def _only(operation: posting.Operation) -> posting.Outcome:
    with transaction.atomic():
        outcome = _drive(posting.post([operation], now=timezone.now()))[0]
    if isinstance(outcome, BillingError):
        raise outcome
    return outcome


def _drive(plan: Generator[Statement, list[Row], T]) -> T:
    """Run a plan over Django's connection."""
    try:
        statement = next(plan)
        while True:
            statement = plan.send(_rows(statement))
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


def _rows(statement: Statement) -> list[Row]:
    with connection.cursor() as cursor:
        cursor.execute(statement.sql, statement.params)
        return cursor.fetchall()
