"""How usage is written down: one plan and one set of SQL texts for every caller, without a connection of its own.

`post` is a generator: it yields statements and is sent their rows. `metering` drives it over Django's connection,
`batching` over an async one. It must run inside one transaction. Lock order, always: reservations by id, then the
Spend rows by team and month, then Counter rows by team, scope, subject and period; so two postings never wait in a
circle.
"""

import functools
import json
import logging
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, TypeAlias
from uuid import UUID

import orjson

from billing import periods, rating
from billing.errors import BillingError, BudgetSpent, UnknownReservation
from billing.meters import COMPUTE
from billing.rating import Line
from billing.sql import LOCK, POST, STORED_COST, STORED_LINES, WITHDRAW

log = logging.getLogger(__name__)

Path: TypeAlias = Literal["hosted", "serverless"]
Quality: TypeAlias = Literal["measured", "estimated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call that asks to be let in. `estimate` is what it is settled with if its owner dies; `most` is the upper
    bound that is held against the budget meanwhile. Quantities are in units of their meter, prices in USD a unit."""

    id: UUID
    team_id: UUID
    time_zone: str
    path: Path
    sku: str
    source: str
    model_name: str
    deployment_name: str = ""
    api_key_name: str = ""
    api_key_id: UUID | None = None
    member: str = ""
    tag: str = ""
    alias: str = ""
    prices: Mapping[str, Decimal]
    estimate: Mapping[str, Decimal]
    most: Mapping[str, Decimal]
    started_at: datetime
    lease_s: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What a call really used. `raw_usage` is the provider's own usage object, kept beside the event as it came."""

    id: UUID
    quantities: Mapping[str, Decimal]
    quality: Quality = "measured"
    raw_usage: dict[str, Any] | None = None
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class Void:
    """A call that failed before its first byte: what it held is released and nothing is billed."""

    id: UUID


@dataclass(frozen=True, slots=True)
class Renewal:
    """The owner of an open call is alive: its lease runs on, and this is what it has used so far."""

    id: UUID
    estimate: Mapping[str, Decimal]
    lease_s: int


@dataclass(frozen=True, slots=True)
class LetIn:
    """A call may be made. `capped`: a budget counts on its upper bound, so the upstream must be held to it."""

    capped: bool


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a call cost in USD. `already`: it had been closed before, and nothing was written now."""

    id: UUID
    cost: Decimal
    lines: tuple[Line, ...]
    already: bool = False


Operation: TypeAlias = Call | Settlement | Void | Renewal
Outcome: TypeAlias = Receipt | LetIn | BillingError | None
Row: TypeAlias = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL text and its parameters; the driver answers with all its rows."""

    sql: str
    params: tuple[Any, ...]


@dataclass(slots=True)
class Writing:
    """The rows of one posting, as the JSON records that POST takes."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)
    closings: dict[UUID, dict[str, Any]] = field(default_factory=dict)
    renewals: dict[UUID, dict[str, Any]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.calls or self.events or self.closings or self.renewals)

    def statement(self) -> Statement:
        records = (self.calls, self.events, self.entries, list(self.closings.values()), list(self.renewals.values()))
        return Statement(POST, tuple(orjson.dumps(rows, default=str).decode() for rows in records))


def post(operations: Sequence[Operation], *, now: datetime) -> Generator[Statement, list[Row], list[Outcome]]:
    """Write all operations; their outcomes in the same order.

    A Call's outcome is LetIn or BudgetSpent / UnpricedMeter / BadQuantity (nothing of it is written). A
    Settlement's is its Receipt or UnknownReservation. A Void's is None, a Renewal's None or BadQuantity. No one's
    failure touches its neighbours.
    """
    outcomes: dict[int, Outcome] = {}
    writing = Writing()
    held = yield from _locked([op.id for op in operations if not isinstance(op, Call)])
    for index, op in enumerate(operations):
        match op:
            case Call():
                outcomes[index] = _plan_call(op, writing, now=now)
            case Void():
                _plan_void(held.get(op.id), writing, now=now)
            case Renewal():
                outcomes[index] = _plan_renewal(op, held.get(op.id), writing, now=now)
            case Settlement():
                outcomes[index] = yield from _plan_settlement(op, held.get(op.id), writing, now=now)
    refused, capped = yield from _write(writing)
    for index, op in enumerate(operations):
        if isinstance(op, Call) and outcomes.get(index) is None:
            outcomes[index] = BudgetSpent(refused[op.id].text) if op.id in refused else LetIn(op.id in capped)
    return [outcomes.get(index) for index in range(len(operations))]


@dataclass(slots=True)
class _Held:
    """A reservation as it was locked; `state` and `receipt` follow what this posting does with it."""

    id: UUID
    team_id: UUID
    state: str
    names: dict[str, str]
    prices: Mapping[str, Decimal]
    amount: Decimal
    month: date
    started_at: datetime
    api_key_id: UUID | None
    alias: str
    fixed_budgets: list[int]
    receipt: Receipt | None = None


def _locked(ids: list[UUID]) -> Generator[Statement, list[Row], dict[UUID, _Held]]:
    if not ids:
        return {}
    rows = yield Statement(LOCK, (sorted(set(ids)),))
    names = ("path", "sku", "source", "model_name", "deployment_name", "api_key_name", "member", "tag")
    return {
        row[0]: _Held(
            id=row[0],
            team_id=row[1],
            state=row[2],
            names=dict(zip(names, row[3:11], strict=True)),
            prices=_prices(row[11]),
            amount=row[12],
            month=row[13],
            started_at=row[14],
            api_key_id=row[15],
            alias=row[16],
            fixed_budgets=row[17],
        )
        for row in rows
    }


@functools.lru_cache(1024)
def _prices(kept: str) -> Mapping[str, Decimal]:
    """As a reservation keeps them; most calls of a moment have the same."""
    return {meter: Decimal(price) for meter, price in json.loads(kept).items()}


def _plan_call(call: Call, writing: Writing, *, now: datetime) -> Outcome:
    try:
        rating.rate(call.estimate, call.prices)
        amount = rating.at_most(call.most, call.prices)
    except BillingError as error:
        return error
    writing.calls.append(
        {
            "id": call.id,
            "team_id": call.team_id,
            "path": call.path,
            "sku": call.sku,
            "source": call.source,
            "model_name": call.model_name,
            "deployment_name": call.deployment_name,
            "api_key_name": call.api_key_name,
            "api_key_id": call.api_key_id,
            "member": call.member,
            "tag": call.tag,
            "alias": call.alias,
            "prices": texts(call.prices),
            "estimate": texts(call.estimate),
            "amount": format(amount, "f"),
            "month": periods.month_at(call.started_at, call.time_zone).first,
            "started_at": call.started_at,
            "lease_until": now + timedelta(seconds=call.lease_s),
        }
    )
    return None


def _plan_void(held: _Held | None, writing: Writing, *, now: datetime) -> None:
    if held is None or held.state != "open":
        return
    held.state, held.receipt = "void", Receipt(held.id, Decimal(0), (), already=True)
    _close(held, writing, now=now)


def _plan_renewal(renewal: Renewal, held: _Held | None, writing: Writing, *, now: datetime) -> Outcome:
    if held is None or held.state != "open":
        return None
    estimate = chargeable(renewal.estimate, held.prices)
    try:
        rating.rate(estimate, held.prices)
    except BillingError as error:
        return error
    lease_until = now + timedelta(seconds=renewal.lease_s)
    writing.renewals[held.id] = {"id": held.id, "lease_until": lease_until, "estimate": texts(estimate)}
    return None


def _plan_settlement(
    settlement: Settlement, held: _Held | None, writing: Writing, *, now: datetime
) -> Generator[Statement, list[Row], Outcome]:
    if held is None:
        return UnknownReservation(f"No call {settlement.id} was let in.")
    if held.state != "open":
        held.receipt = held.receipt or (yield from _stored(held))
        return held.receipt
    try:
        lines = rating.rate(chargeable(settlement.quantities, held.prices), held.prices)
    except BillingError as error:
        return error
    cost = rating.total(lines)
    held.state, held.receipt = "settled", Receipt(held.id, cost, lines, already=True)
    _close(held, writing, now=now)
    subject = {
        "team_id": held.team_id,
        "api_key_id": held.api_key_id,
        "alias": held.alias,
        "month": held.month,
        "started_at": held.started_at,
        **held.names,
    }
    plan_event(
        writing,
        {
            **subject,
            "id": held.id,
            "ended_at": settlement.ended_at,
            "recorded_at": now,
            "quality": settlement.quality,
            "quantities": texts(settlement.quantities),
            "raw_usage": _storable(settlement.raw_usage),
            "cost": format(cost, "f"),
        },
        lines,
    )
    return Receipt(held.id, cost, lines)


def plan_event(writing: Writing, event: dict[str, Any], lines: Iterable[Line]) -> None:
    """Add an event and its ledger lines. An event whose id was written before adds nothing, not even its lines. The
    first line of a call counts it."""
    writing.events.append(event)
    writing.entries += [
        {
            "event_id": event["id"],
            "meter": line.meter,
            "quantity": format(line.quantity, "f"),
            "unit_price": format(line.unit_price, "f"),
            "list_price": None if line.list_price is None else format(line.list_price, "f"),
            "discount": None if line.discount is None else format(line.discount, "f"),
            "amount": format(line.amount, "f"),
            "calls": int(not place and not line.meter.startswith(COMPUTE)),
            "uncached_price": None if line.uncached_price is None else format(line.uncached_price, "f"),
        }
        for place, line in enumerate(lines)
    ]


def chargeable(quantities: Mapping[str, Decimal], prices: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """The quantities that have a price. One that has none is refused before a call; if a provider reports one all
    the same, it is kept on the event, charged at no invented price, and `check_ledger` asks for a correction."""
    priced = {meter: amount for meter, amount in quantities.items() if rating.price_of(meter, prices) is not None}
    if unpriced := {meter for meter in quantities.keys() - priced.keys() if quantities[meter]}:
        log.warning("usage without a price was recorded and not charged: %s", sorted(unpriced))
    return priced


def texts(numbers: Mapping[str, Decimal]) -> dict[str, str]:
    """Exact decimal strings, as JSON keeps them."""
    return {name: format(number, "f") for name, number in numbers.items()}


def _close(held: _Held, writing: Writing, *, now: datetime) -> None:
    writing.closings[held.id] = {
        "id": held.id,
        "state": held.state,
        "closed_at": now,
        "team_id": held.team_id,
        "api_key_id": held.api_key_id,
        "deployment_name": held.names["deployment_name"],
        "alias": held.alias,
        "fixed_budgets": held.fixed_budgets,
        "month": held.month,
        "amount": format(held.amount, "f"),
    }


def _stored(held: _Held) -> Generator[Statement, list[Row], Receipt]:
    cost = yield Statement(STORED_COST, (held.id, held.started_at))
    rows = yield Statement(STORED_LINES, (held.id,))
    return Receipt(held.id, cost[0][0] if cost else Decimal(0), tuple(Line(*row) for row in rows), already=True)


_Key: TypeAlias = tuple[UUID, str, str, str]


@dataclass(frozen=True, slots=True, eq=False)
class _Cap:
    """A hard budget that a call is held against: its counter's key, how high that may go, and how people call it."""

    counter: _Key
    limit: Decimal
    usd: Decimal
    label: str
    recurs: str

    @property
    def text(self) -> str:
        _, scope, subject, _ = self.counter
        return in_words(self.usd, scope, self.label or subject, self.recurs)


def _write(writing: Writing) -> Generator[Statement, list[Row], tuple[dict[UUID, _Cap], set[UUID]]]:
    """Run POST; the calls that no budget has room for with the cap that refuses them, and those under any cap."""
    if not writing:
        return {}, set()
    rows = yield writing.statement()
    refused: dict[UUID, _Cap] = {}
    capped: set[UUID] = set()
    amounts: dict[UUID, Decimal] = {}
    held: dict[UUID, list[_Cap]] = {}
    room: dict[_Key, Decimal] = {}
    for (
        call_id,
        amount,
        affordable,
        fresh,
        team_id,
        scope,
        subject,
        period,
        committed,
        limit,
        usd,
        label,
        recurs,
    ) in rows:
        if limit is None:
            continue
        capped.add(call_id)
        cap = _Cap((team_id, scope, subject, period), limit, usd, label, recurs)
        if not affordable:
            refused[call_id] = min(cap, refused.get(call_id, cap), key=lambda each: each.limit)
        elif fresh and committed is not None:
            amounts[call_id] = amount
            held.setdefault(call_id, []).append(cap)
            room[cap.counter] = committed
    asked = {call["id"]: index for index, call in enumerate(writing.calls)}
    over = _over(sorted(held, key=lambda call_id: asked[call_id]), amounts, held, room)
    if over:
        yield Statement(WITHDRAW, (list(over),))
    return refused | over, capped


def _over(
    calls: list[UUID], amounts: dict[UUID, Decimal], held: dict[UUID, list[_Cap]], committed: dict[_Key, Decimal]
) -> dict[UUID, _Cap]:
    """Which of the calls just held don't fit under a cap, and under which; first come first served."""
    room = dict(committed)
    for call_id in calls:
        for cap in held[call_id]:
            room[cap.counter] = rating.add([room[cap.counter], amounts[call_id].copy_negate()])
    over: dict[UUID, _Cap] = {}
    for call_id in calls:
        wished = {cap: rating.add([room[cap.counter], amounts[call_id]]) for cap in held[call_id]}
        if tight := [cap for cap, total in wished.items() if total > cap.limit]:
            over[call_id] = min(tight, key=lambda cap: cap.limit)
        else:
            room |= {cap.counter: total for cap, total in wished.items()}
    return over


def in_words(usd: Decimal, scope: str, label: str, recurs: str) -> str:
    """A budget as a refusal names it."""
    what = f"This month's budget of ${usd:,.2f}" if recurs == "monthly" else f"The budget of ${usd:,.2f}"
    return what if scope == "team" else f"{what} for the {scope} {label}"


# Made once: json.dumps with options of its own would make one a call.
_EXACT_JSON = json.JSONEncoder(allow_nan=False, ensure_ascii=False)


def _storable(raw: dict[str, Any] | None) -> dict[str, Any] | None:
    """The provider's object, unless Postgres can't keep it as JSON (NUL, half a surrogate, NaN): then its text."""
    try:
        text = _EXACT_JSON.encode(raw)
        orjson.dumps(raw)
    except (ValueError, TypeError, RecursionError):
        return {"unreadable": ascii(raw)[:4000]}
    return raw if "\\u0000" not in text else {"unreadable": ascii(raw)[:4000]}
