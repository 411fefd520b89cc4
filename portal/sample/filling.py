"""Fills the sample team: what `rhythm` makes up goes through the door that all usage goes through.

Prices are rows of their own (`sample:...`), made valid from the first day and taken over from what this portal asks
today; the real price book is not touched. All of it is one transaction: the team is there whole, or not at all.
"""

import math
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import TypeVar

from django.db import transaction

from accounts import sample
from accounts.models import ApiKey, Team
from billing import budgets, corrections, credits, metering, pricing, rating, usage
from billing.errors import NoPrice
from billing.metering import Stretch
from billing.meters import COMPUTE_SECONDS, COMPUTE_STARTING, TOKENS_INPUT, TOKENS_INPUT_CACHED, TOKENS_OUTPUT
from billing.models import Budget, LedgerEntry, Price
from billing.posting import Call, Receipt, Settlement
from billing.pricing import INCLUDED_TOKENS
from catalog import offers
from catalog.models import Hardware, Model
from catalog.offers import HostedRoute
from deployments import sample as deployments
from deployments.lifecycle import Reason, Status
from deployments.sample import Past
from gateway import journal
from gateway.journal import Entry
from portal.sample import rhythm
from portal.sample.rhythm import ENGINES, PROGRAMS, Calendar, Engine, Use

T = TypeVar("T")

ZONE = "Europe/Berlin"
BATCH = 1000
STRETCHES = 40
LOGGED_DAYS = 3
NEAR = Decimal("0.85")
"""How much of its budget the team has spent: near enough to be warned of it."""
LEAST_BUDGET = Decimal(10)
MADE_UP = {"l4": Decimal("0.80") / 3600, "cpu-small": Decimal("0.036") / 3600}
PICO = Decimal("1e-12")
EXPIRES = timedelta(days=5)


@dataclass(frozen=True, slots=True)
class Filled:
    """What was written."""

    team: Team
    calls: int
    stretches: int
    cost: Decimal


@transaction.atomic
def fill(*, until: datetime, days: int, seed: int) -> Filled | None:
    """The team with its last `days` days; None if it is there already, and then nothing is added. Raises NameTaken, or
    NoPrice where this portal has no priced model."""
    if sample.find() is not None:
        return None
    team, keys = sample.make(time_zone=ZONE, keys_of=rhythm.KEYS)
    span = _Span(team, keys, Calendar(seed, until, days, ZONE))
    credits.grant(team, name="Welcome credit", usd=Decimal(25), starts_at=span.calendar.begins, actor="sample data")
    pairs = [*_hosted(span), *_served(span)]
    pairs.sort(key=lambda pair: pair[0].started_at)
    receipts = [receipt for batch in _batches(pairs, BATCH) for receipt in metering.record_calls(batch)]
    stretches = _compute(span)
    for batch in _batches(stretches, STRETCHES):
        metering.record_uptime(batch)
    _log(pairs, receipts, until)
    _correct(team)
    _leave_deployments(span)
    _touch_keys(keys, pairs, until)
    _cap(team, until)
    cost = rating.add(LedgerEntry.objects.filter(team=team).values_list("amount", flat=True))
    return Filled(team, len(pairs), len(stretches), cost)


@dataclass(frozen=True, slots=True)
class _Span:
    team: Team
    keys: dict[str, ApiKey]
    calendar: Calendar


Pair = tuple[Call, Settlement]


def _hosted(span: _Span) -> Iterator[Pair]:
    routes = {route.model_slug: route for route in offers.hosted_routes()}
    priced = {slug: route for slug, route in routes.items() if _has_tokens_prices(route.sku)}
    if not priced:
        raise NoPrice("any hosted model")
    for program in PROGRAMS:
        slug = next((slug for slug in program.wants if slug in priced), min(priced))
        route = priced[slug]
        sku = _sample_price(route.sku, span.calendar.begins)
        prices = pricing.prices_at(sku, at=span.calendar.begins)
        for number, use in enumerate(rhythm.uses(program, span.calendar)):
            yield _pair(span, use, f"{program.key}/{number}", _as_hosted(route, sku), prices)


def _served(span: _Span) -> Iterator[Pair]:
    prices = pricing.prices_at(INCLUDED_TOKENS)
    for engine in ENGINES:
        for life in rhythm.lives(engine, span.calendar):
            for number, use in enumerate(rhythm.calls_within(engine, life, span.calendar)):
                name = f"{engine.name}/{life.started_at.isoformat()}/{number}"
                yield _pair(span, use, name, _as_served(span.team, engine), prices)


def _as_hosted(route: HostedRoute, sku: str) -> dict[str, str]:
    return {"path": "hosted", "sku": sku, "source": route.model_slug, "model_name": route.model_name}


def _as_served(team: Team, engine: Engine) -> dict[str, str]:
    return {
        "path": "serverless", "sku": INCLUDED_TOKENS, "source": f"{team.slug}/{engine.name}",
        "model_name": engine.model_name, "deployment_name": engine.name,
    }  # fmt: skip


def _pair(span: _Span, use: Use, name: str, subject: dict[str, str], prices: dict[str, Decimal]) -> Pair:
    key = span.keys[use.key]
    quantities = {TOKENS_INPUT.name: Decimal(use.tokens_in), TOKENS_OUTPUT.name: Decimal(use.tokens_out)}
    if use.tokens_cached:
        quantities[TOKENS_INPUT_CACHED.name] = Decimal(use.tokens_cached)
    call = Call(
        id=uuid.uuid5(span.team.pk, name), team_id=span.team.pk, time_zone=span.team.time_zone,
        api_key_name=f"{key.name} ({key.prefix})", api_key_id=key.pk, tag=key.tag,
        member=key.created_by.email if key.created_by else "", prices=prices, estimate=quantities,
        most=quantities, started_at=use.at, **subject,  # type: ignore[arg-type]
    )  # fmt: skip
    return call, Settlement(id=call.id, quantities=quantities, ended_at=use.ended_at)


def _compute(span: _Span) -> list[Stretch]:
    """Each engine's life: its start on the meter of starting, the rest awake."""
    found = []
    for engine in ENGINES:
        sku = _compute_price(engine.hardware, span.calendar.begins)
        prices = pricing.prices_at(sku, at=span.calendar.begins)
        for past in _past(engine, span):
            parts = (
                (COMPUTE_STARTING.name, past.started_at, past.ready_at),
                (COMPUTE_SECONDS.name, past.ready_at, past.exited_at),
            )
            found += [
                Stretch(
                    replica_id=past.id_in(span.team, engine.name), team=span.team, sku=sku,
                    source=f"{span.team.slug}/{engine.name}", model_name=engine.model_name,
                    deployment_name=engine.name, started_at=begin, ended_at=end, prices=prices, meter=meter,
                )
                for meter, begin, end in parts
            ]  # fmt: skip
    return found


def _past(engine: Engine, span: _Span) -> list[Past]:
    lives = rhythm.lives(engine, span.calendar)
    return [Past(life.started_at, life.ready_at, life.exited_at) for life in lives]


def _has_tokens_prices(sku: str) -> bool:
    found = pricing.in_force([sku]).get(sku, {})
    return TOKENS_INPUT.name in found and TOKENS_OUTPUT.name in found


def _sample_price(sku: str, begins: datetime) -> str:
    """A sku of the sample's own that costs what this one costs today."""
    own = f"sample:{sku}"
    for meter, price in pricing.in_force([sku])[sku].items():
        _price(own, meter, price.amount, begins, source=f"Sample data: as {sku} today", source_date=price.source_date)
    return own


def _compute_price(hardware: str, begins: datetime) -> str:
    """As the hardware costs today; what has no price here has one that is made up, and says so."""
    own, real = f"sample:compute:{hardware}", f"compute:{hardware}"
    found: Price | None = pricing.in_force([real]).get(real, {}).get(COMPUTE_SECONDS.name)
    amount = found.amount if found else MADE_UP[hardware].quantize(PICO)
    said = f"Sample data: as {real} today" if found else "Sample data: made up"
    _price(own, COMPUTE_SECONDS.name, amount, begins, source=said, source_date=datetime.now(UTC).date())
    return own


def _price(sku: str, meter: str, amount: Decimal, begins: datetime, *, source: str, source_date: date) -> None:
    pricing.set_price(sku, meter=meter, amount=amount, valid_from=begins, source=source, source_date=source_date)


def _log(pairs: list[Pair], receipts: list[Receipt], until: datetime) -> None:
    """The last days stand in the request log, too."""
    recent = [
        _entry(call, settlement, receipt)
        for (call, settlement), receipt in zip(pairs, receipts, strict=True)
        if call.started_at > until - timedelta(days=LOGGED_DAYS)
    ]
    for batch in _batches(recent, BATCH):
        journal.write_past(batch)


def _entry(call: Call, settlement: Settlement, receipt: Receipt) -> Entry:
    took = round((settlement.ended_at - call.started_at) / timedelta(milliseconds=1))
    tokens = settlement.quantities
    tokens_in = sum(int(number) for meter, number in tokens.items() if meter.startswith(TOKENS_INPUT.name))
    return Entry(
        call.team_id, f"req_{call.id.hex}", call.api_key_name, "chat", call.source, True, at=call.started_at,
        model=call.source, target="sample data", path=call.path, attempts=1, status=200,
        tokens_in=tokens_in, tokens_out=int(tokens[TOKENS_OUTPUT.name]), cost=receipt.cost,
        first_byte_ms=took // 5, total_ms=took,
    )  # fmt: skip


def _correct(team: Team) -> None:
    """One call was charged too much, and half of it is given back."""
    rows = LedgerEntry.objects.filter(team=team, kind=LedgerEntry.Kind.USAGE, meter=TOKENS_OUTPUT.name, amount__gt=0)
    dear = rows.select_related("team").order_by("-amount", "pk").first()
    if dear is not None:
        corrections.correct(
            dear, quantity=(dear.quantity / 2).to_integral_value(), unit_price=dear.unit_price,
            reason="Sample: the answer was cut off", actor="sample data",
        )  # fmt: skip


def _leave_deployments(span: _Span) -> None:
    """One sleeps and one has failed, where this portal has the small model and can run it."""
    model = Model.objects.filter(slug="smollm2-135m-instruct", team=None).first()
    hardware = Hardware.objects.filter(slug="cpu-small").first()
    if model is None or hardware is None or offers.deployable_offer(model) is None:
        return
    engine = ENGINES[0]
    engines = _past(engine, span)
    last = engines[-1].exited_at if engines else span.calendar.begins
    given = {"model": model, "hardware": hardware, "born": span.calendar.begins}
    deployments.left(
        span.team, name=engine.name, since=last, status=Status.ASLEEP, reason=Reason.IDLE, engines=engines,
        **given,  # type: ignore[arg-type]
    )  # fmt: skip
    deployments.left(
        span.team, name="translate", since=span.calendar.until - timedelta(hours=9), status=Status.FAILED,
        reason=Reason.START_TIMEOUT, detail="Sample: it did not answer within 120 s",
        **given,  # type: ignore[arg-type]
    )  # fmt: skip


def _touch_keys(keys: dict[str, ApiKey], pairs: list[Pair], until: datetime) -> None:
    """When each was last used; one runs out soon."""
    for key in keys.values():
        last = max((call.started_at for call, _ in pairs if call.api_key_id == key.pk), default=None)
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=last)
    ApiKey.objects.filter(pk=keys[PROGRAMS[1].key].pk).update(expires_at=until + EXPIRES)


def _cap(team: Team, until: datetime) -> None:
    """A monthly budget that is nearly spent, set last: the past is let in whatever it cost. Nobody is mailed."""
    spent = usage.lately(team, now=until).month.total
    budgets.set_monthly(team, LEAST_BUDGET)
    credits.refresh(team, now=until)
    budget = Budget.objects.get(team=team)
    budgets.set_monthly(team, max(LEAST_BUDGET, Decimal(math.ceil(spent / NEAR - budget.credit_usd))))
    Budget.objects.filter(team=team).update(alert_percents=[])


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
