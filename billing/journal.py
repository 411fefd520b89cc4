"""The one implementation of reserving and settling, without I/O: plans that yield queries and are sent rows.

billing.metering runs a plan on Django's connection, billing.batching runs many callers' operations as one plan on an
async connection. A plan is one transaction. Lock order, always: reservations by id, then spends by (team, month).
"""

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from billing import rating
from billing.errors import BadQuantity, BudgetSpent, UnknownReservation, UnpricedMeter

Row = Sequence[Any]
Key = tuple[UUID, date]


@dataclass(frozen=True, slots=True)
class Call:
    """A call about to be made. `estimate` settles it if its owner dies; `most` bounds what is held for it."""

    id: UUID
    team_id: UUID
    time_zone: str
    path: str
    sku: str
    source: str
    model_name: str
    deployment_name: str
    api_key_name: str
    prices: Mapping[str, Decimal]
    estimate: Mapping[str, Decimal]
    most: Mapping[str, Decimal]
    started_at: datetime
    lease_s: int = 60


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a call really used; `raw_usage` is the provider's own object, kept beside the row."""

    id: UUID
    quantities: Mapping[str, Decimal]
    quality: str
    raw_usage: dict[str, Any] | None
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class Void:
    """The call failed before its first byte: nothing is owed, the hold is released."""

    id: UUID


@dataclass(frozen=True, slots=True)
class Renewal:
    """The owner lives: a longer lease, and a better estimate of what has been used so far."""

    id: UUID
    estimate: Mapping[str, Decimal]
    lease_until: datetime


@dataclass(frozen=True, slots=True)
class Receipt:
    """A settled call: its exact cost in USD and its lines (none where it was closed `already`)."""

    id: UUID
    cost: Decimal
    lines: tuple[rating.Line, ...]
    already: bool


Operation = Call | Settlement | Void | Renewal
Outcome = Receipt | Exception | None


@dataclass(frozen=True, slots=True)
class Query:
    sql: str
    parameters: Sequence[Any]


Plan = Generator[Query, list[Row], list[Outcome]]


@dataclass(slots=True)
class _Held:
    """One (team, month) counter while its row is locked."""

    settled: Decimal
    held: Decimal
    cap: Decimal | None
    settled_change: Decimal = field(default=Decimal(0))
    held_change: Decimal = field(default=Decimal(0))

    @property
    def committed(self) -> Decimal:
        return self.settled + self.held + self.settled_change + self.held_change


def month_of(moment: datetime, time_zone: str) -> date:
    """The first day of the month in which `moment` falls in the team's time zone."""
    return moment.astimezone(ZoneInfo(time_zone)).date().replace(day=1)


def apply(operations: Sequence[Operation]) -> Plan:
    """Carry out all operations in one transaction; the outcome of each in its place. A refused one harms no other."""
    found = yield from _lock_reservations([op.id for op in operations if not isinstance(op, Call)])
    closed = yield from _costs_of([row_id for row_id, row in found.items() if row["state"] == "settled"])
    keys = {(op.team_id, month_of(op.started_at, op.time_zone)) for op in operations if isinstance(op, Call)}
    keys |= {(row["team_id"], row["month"]) for row in found.values() if row["state"] == "open"}
    spends = yield from _lock_spends(keys)
    calls: list[tuple[Call, Decimal, date]] = []
    settled: list[tuple[Settlement, dict[str, Any], tuple[rating.Line, ...]]] = []
    voided: list[UUID] = []
    renewed: list[Renewal] = []
    outcomes: list[Outcome] = []
    for op in operations:
        match op:
            case Call():
                outcomes.append(_admit(op, spends, calls))
            case _ if op.id not in found:
                outcomes.append(UnknownReservation(f"No reservation {op.id}"))
            case Settlement():
                outcomes.append(_close(op, found[op.id], spends, settled, closed))
            case Void():
                _release(op, found[op.id], spends, voided)
                outcomes.append(None)
            case Renewal():
                if found[op.id]["state"] == "open":
                    renewed.append(op)
                outcomes.append(None)
    yield from _write(calls, settled, voided, renewed)
    yield from _move(spends)
    return outcomes


def record(team_id: UUID, time_zone: str, *, events: Sequence["Slice"], facts: "Facts") -> Plan:
    """Usage that nobody reserved (compute slices). An id that exists already is left as it is."""
    keys = {(team_id, month_of(event.started_at, time_zone)) for event in events}
    spends = yield from _lock_spends(keys)
    known = yield Query("SELECT id FROM billing_usageevent WHERE id = ANY(%s)", [[event.id for event in events]])
    seen = {row[0] for row in known}
    rows = []
    for event in events:
        if event.id in seen:
            continue
        lines = rating.rate(event.quantities, facts.prices)
        spends[team_id, month_of(event.started_at, time_zone)].settled_change += rating.total(lines)
        rows.append((_event_row(event, facts, team_id, lines), lines))
    yield from _write_events(rows)
    yield from _move(spends)
    return []


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rows of one subject share: names are copied onto them, so they outlive it."""

    path: str
    sku: str
    source: str
    model_name: str
    deployment_name: str
    api_key_name: str
    prices: Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class Slice:
    """One usage event to be: when it began and ended, and how much of each meter."""

    id: UUID
    started_at: datetime
    ended_at: datetime
    quantities: Mapping[str, Decimal]
    quality: str = "measured"
    raw_usage: dict[str, Any] | None = None


def _admit(call: Call, spends: dict[Key, _Held], calls: list[tuple[Call, Decimal, date]]) -> Outcome:
    month = month_of(call.started_at, call.time_zone)
    spend = spends[call.team_id, month]
    try:
        amount = rating.total(rating.rate(call.most, call.prices))
        rating.rate(call.estimate, call.prices)
    except (UnpricedMeter, BadQuantity) as error:
        return error
    if spend.cap is not None and spend.committed + amount > spend.cap:
        return BudgetSpent(spend.cap)
    spend.held_change += amount
    calls.append((call, amount, month))
    return None


def _close(
    op: Settlement,
    row: dict[str, Any],
    spends: dict[Key, _Held],
    settled: list[tuple[Settlement, dict[str, Any], tuple[rating.Line, ...]]],
    closed: dict[UUID, Decimal],
) -> Receipt | Exception:
    if row["state"] != "open":
        return Receipt(op.id, closed.get(op.id, Decimal(0)), (), already=True)
    prices = {meter: Decimal(text) for meter, text in row["prices"].items()}
    try:
        lines = rating.rate(op.quantities, prices)
    except (UnpricedMeter, BadQuantity) as error:
        return error
    cost = rating.total(lines)
    spend = spends[row["team_id"], row["month"]]
    spend.settled_change += cost
    spend.held_change -= row["amount"]
    row["state"] = "settled"
    closed[op.id] = cost
    settled.append((op, row, lines))
    return Receipt(op.id, cost, lines, already=False)


def _release(op: Void, row: dict[str, Any], spends: dict[Key, _Held], voided: list[UUID]) -> None:
    if row["state"] != "open":
        return
    row["state"] = "void"
    spends[row["team_id"], row["month"]].held_change -= row["amount"]
    voided.append(op.id)


RESERVATION_COLUMNS = (
    "id",
    "team_id",
    "state",
    "path",
    "sku",
    "source",
    "model_name",
    "deployment_name",
    "api_key_name",
    "prices",
    "amount",
    "month",
    "started_at",
)


def _lock_reservations(ids: list[UUID]) -> Generator[Query, list[Row], dict[UUID, dict[str, Any]]]:
    if not ids:
        return {}
    rows = yield Query(
        f"SELECT {', '.join(RESERVATION_COLUMNS)} FROM billing_reservation"  # noqa: S608 - constant names
        " WHERE id = ANY(%s) ORDER BY id FOR UPDATE",
        [ids],
    )
    found = {row[0]: dict(zip(RESERVATION_COLUMNS, row, strict=True)) for row in rows}
    for row in found.values():
        if isinstance(row["prices"], str):  # Django's cursor leaves jsonb as text
            row["prices"] = json.loads(row["prices"])
    return found


def _costs_of(ids: list[UUID]) -> Generator[Query, list[Row], dict[UUID, Decimal]]:
    if not ids:
        return {}
    rows = yield Query("SELECT id, cost FROM billing_usageevent WHERE id = ANY(%s)", [ids])
    return {row[0]: row[1] for row in rows}


SPENDS = """
SELECT s.team_id, s.month, s.settled, s.held, b.monthly_usd
FROM billing_spend s LEFT JOIN billing_budget b ON b.team_id = s.team_id
WHERE (s.team_id, s.month) IN (SELECT * FROM unnest(%s::uuid[], %s::date[]))
ORDER BY s.team_id, s.month FOR UPDATE OF s
"""


def _lock_spends(keys: set[Key]) -> Generator[Query, list[Row], dict[Key, _Held]]:
    if not keys:
        return {}
    ordered = sorted(keys)
    arrays = [[team for team, _ in ordered], [month for _, month in ordered]]
    rows = yield Query(SPENDS, arrays)
    if len(rows) < len(ordered):
        yield Query(
            "INSERT INTO billing_spend (team_id, month, settled, held)"
            " SELECT team, month, 0, 0 FROM unnest(%s::uuid[], %s::date[]) AS new (team, month) ORDER BY team, month"
            " ON CONFLICT (team_id, month) DO NOTHING",
            arrays,
        )
        rows = yield Query(SPENDS, arrays)
    return {(row[0], row[1]): _Held(settled=row[2], held=row[3], cap=row[4]) for row in rows}


def _write(
    calls: list[tuple[Call, Decimal, date]],
    settled: list[tuple[Settlement, dict[str, Any], tuple[rating.Line, ...]]],
    voided: list[UUID],
    renewed: list[Renewal],
) -> Generator[Query, list[Row], None]:
    if calls:
        yield _insert_reservations(calls)
    if settled:
        yield from _write_events([(_settled_row(op, row, lines), lines) for op, row, lines in settled])
    closed_ids = [(op.id, "settled") for op, _, _ in settled] + [(row_id, "void") for row_id in voided]
    if closed_ids:
        yield Query(
            "UPDATE billing_reservation r SET state = c.state, closed_at = %s"
            " FROM unnest(%s::uuid[], %s::text[]) AS c (id, state) WHERE r.id = c.id",
            [datetime.now(UTC), [row_id for row_id, _ in closed_ids], [state for _, state in closed_ids]],
        )
    if renewed:
        yield Query(
            "UPDATE billing_reservation r SET lease_until = n.lease_until, estimate = n.estimate"
            " FROM unnest(%s::uuid[], %s::timestamptz[], %s::jsonb[]) AS n (id, lease_until, estimate)"
            " WHERE r.id = n.id",
            [
                [op.id for op in renewed],
                [op.lease_until for op in renewed],
                [exact_json(op.estimate) for op in renewed],
            ],
        )


def _insert_reservations(calls: list[tuple[Call, Decimal, date]]) -> Query:
    rows = [
        (
            call.id, call.team_id, "open", call.path, call.sku, call.source, call.model_name, call.deployment_name,
            call.api_key_name, exact_json(call.prices), exact_json(call.estimate), amount, month, call.started_at,
            call.started_at + timedelta(seconds=call.lease_s),
        )
        for call, amount, month in calls
    ]  # fmt: skip
    return Query(
        "INSERT INTO billing_reservation (id, team_id, state, path, sku, source, model_name, deployment_name,"
        " api_key_name, prices, estimate, amount, month, started_at, lease_until)"
        " SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],"
        " %s::text[], %s::text[], %s::jsonb[], %s::jsonb[], %s::numeric[], %s::date[], %s::timestamptz[],"
        " %s::timestamptz[])",
        _columns(rows),
    )


def _settled_row(op: Settlement, row: dict[str, Any], lines: tuple[rating.Line, ...]) -> tuple[Any, ...]:
    facts = Facts(
        row["path"], row["sku"], row["source"], row["model_name"], row["deployment_name"], row["api_key_name"], {}
    )
    event = Slice(op.id, row["started_at"], op.ended_at, op.quantities, op.quality, op.raw_usage)
    return _event_row(event, facts, row["team_id"], lines)


def _event_row(event: Slice, facts: Facts, team_id: UUID, lines: tuple[rating.Line, ...]) -> tuple[Any, ...]:
    return (
        event.id, team_id, event.started_at, event.ended_at, datetime.now(UTC), facts.path, facts.sku, facts.source,
        facts.model_name, facts.deployment_name, facts.api_key_name, event.quality, exact_json(event.quantities),
        json.dumps(event.raw_usage) if event.raw_usage is not None else None, rating.total(lines),
    )  # fmt: skip


def _write_events(
    rows: list[tuple[tuple[Any, ...], tuple[rating.Line, ...]]],
) -> Generator[Query, list[Row], None]:
    if not rows:
        return
    yield Query(
        "INSERT INTO billing_usageevent (id, team_id, started_at, ended_at, recorded_at, path, sku, source, model_name,"
        " deployment_name, api_key_name, quality, quantities, raw_usage, cost)"
        " SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[],"
        " %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::jsonb[],"
        " %s::jsonb[], %s::numeric[])",
        _columns([event for event, _ in rows]),
    )
    entries = [
        (
            event[1], event[0], "usage", event[2], *event[5:11], line.meter, line.quantity, line.unit_price,
            line.amount, "USD", "",
        )
        for event, lines in rows
        for line in lines
    ]  # fmt: skip
    if entries:
        yield Query(
            "INSERT INTO billing_ledgerentry (team_id, event_id, kind, at, path, sku, source, model_name,"
            " deployment_name, api_key_name, meter, quantity, unit_price, amount, currency, reason)"
            " SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::text[], %s::timestamptz[], %s::text[], %s::text[],"
            " %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::numeric[], %s::numeric[], %s::numeric[],"
            " %s::text[], %s::text[])",
            _columns(entries),
        )


def _move(spends: dict[Key, _Held]) -> Generator[Query, list[Row], None]:
    moved = [(key, spend) for key, spend in spends.items() if spend.settled_change or spend.held_change]
    if moved:
        yield Query(
            "UPDATE billing_spend s SET settled = s.settled + d.settled, held = s.held + d.held"
            " FROM unnest(%s::uuid[], %s::date[], %s::numeric[], %s::numeric[]) AS d (team, month, settled, held)"
            " WHERE s.team_id = d.team AND s.month = d.month",
            _columns([(*key, spend.settled_change, spend.held_change) for key, spend in moved]),
        )


def exact_json(quantities: Mapping[str, Decimal]) -> str:
    """meter -> decimal, as text without exponent, so that nothing is lost in JSON."""
    return json.dumps({meter: f"{quantity:f}" for meter, quantity in quantities.items()})


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
