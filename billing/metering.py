"""The only door for usage: reserve before a call, settle or void after it, record compute. Runs on Django's connection.

The gateway's many calls go through billing.batching, which runs the same plans (billing.journal) for many at once.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid5

from django.db import connection, transaction

from accounts.models import Team
from billing import journal
from billing.journal import Call, Facts, Outcome, Plan, Receipt, Settlement, Slice, Void
from billing.meters import COMPUTE_SECONDS
from billing.models import Reservation

__all__ = ["Call", "Receipt", "Settlement", "record_compute", "reserve", "settle", "sweep", "void"]

SLICE_S = 60
SWEEP_BATCH = 200


def reserve(call: Call) -> None:
    """Write the durable reservation, or raise BudgetSpent or UnpricedMeter and write nothing."""
    _only(_run(journal.apply([call])))


def settle(settlement: Settlement) -> Receipt:
    """Make it final: event, ledger lines and counter in one transaction. A second time changes nothing."""
    receipt = _only(_run(journal.apply([settlement])))
    assert isinstance(receipt, Receipt)  # noqa: S101 - for the type checker
    return receipt


def void(reservation_id: UUID) -> None:
    """The call failed before its first byte: nothing is billed, the hold is released. Safe to call twice."""
    _only(_run(journal.apply([Void(reservation_id)])))


def sweep(*, now: datetime) -> int:
    """Settle what dead owners left open past its lease, as `estimated`. Returns how many were settled."""
    with transaction.atomic():
        rows = list(
            Reservation.objects.select_for_update(skip_locked=True, of=("self",))
            .filter(state=Reservation.State.OPEN, lease_until__lt=now)
            .order_by("pk")[:SWEEP_BATCH]
        )
        _run(journal.apply([_estimated(row, now) for row in rows]))
    return len(rows)


def record_compute(
    *,
    replica_id: UUID,
    team: Team,
    sku: str,
    source: str,
    model_name: str,
    deployment_name: str,
    started_at: datetime,
    ended_at: datetime,
    prices: Mapping[str, Decimal],
) -> None:
    """Bill [started_at, ended_at] of a replica in slices with deterministic ids, in the caller's transaction.

    `ended_at` is a minute's boundary (see `last_boundary`) while the replica runs, and its real exit at the end.
    """
    facts = Facts("serverless", sku, source, model_name, deployment_name, "", dict(prices))
    events = [
        Slice(uuid5(replica_id, begin.isoformat()), begin, end, {COMPUTE_SECONDS.name: seconds_between(begin, end)})
        for begin, end in compute_slices(started_at, ended_at)
    ]
    if events:
        _run(journal.record(team.pk, team.time_zone, events=events, facts=facts))


def compute_slices(started_at: datetime, ended_at: datetime) -> Iterator[tuple[datetime, datetime]]:
    """[started_at, ended_at] cut at every minute's boundary (UTC), so that no slice crosses a day in any time zone."""
    begin = started_at
    while begin < ended_at:
        end = min(last_boundary(begin) + timedelta(seconds=SLICE_S), ended_at)
        yield begin, end
        begin = end


def last_boundary(moment: datetime) -> datetime:
    """The last minute's boundary at or before `moment`."""
    return moment.astimezone(UTC).replace(second=0, microsecond=0)


def seconds_between(begin: datetime, end: datetime) -> Decimal:
    """Exact to the microsecond."""
    span = end - begin
    return Decimal(span.days * 86400 + span.seconds) + Decimal(span.microseconds) / Decimal(1_000_000)


def _estimated(row: Reservation, now: datetime) -> Settlement:
    quantities = {meter: Decimal(text) for meter, text in row.estimate.items()}
    return Settlement(row.pk, quantities, "estimated", None, now)


def _run(plan: Plan) -> list[Outcome]:
    with transaction.atomic(), connection.cursor() as cursor:
        try:
            query = next(plan)
            while True:
                cursor.execute(query.sql, query.parameters)
                query = plan.send(cursor.fetchall() if cursor.description else [])
        except StopIteration as done:
            return list(done.value)


def _only(outcomes: list[Outcome]) -> Outcome:
    (outcome,) = outcomes
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
