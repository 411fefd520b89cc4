"""What the advisor says a trace costs is what billing then charges for it, within one percent, in three shapes."""

import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db.models import Sum

from billing import metering, pricing
from billing.models import LedgerEntry
from billing.posting import Call as Reservation
from billing.posting import Settlement
from deployments import operations
from deployments.advice import costing
from deployments.advice.costing import Elastic, Machine
from deployments.advice.fleet import Call
from deployments.advice.traffic import Seen, Speed, Traced
from tests.deployments.advice import replaying
from tests.factories.accounts import TeamFactory
from tests.factories.billing import priced
from tests.factories.deployments import smollm2

pytestmark = pytest.mark.django_db

SPEED, START_S = Speed(reads=900.0, writes=60.0, at_once=4), 37.0
ONE_PERCENT = Decimal("0.01")


@dataclass(frozen=True)
class Shape:
    name: str
    moments: tuple[float, ...]
    most: int
    wakes: int


def _steady() -> Iterator[float]:
    """Every 25 minutes, some seconds to and fro: it sleeps between them."""
    chance = random.Random(1)  # noqa: S311 - the same in every run
    yield from (n * 1500 + chance.uniform(0, 90) for n in range(57))


def _bursty() -> Iterator[float]:
    """Six times a day forty calls within five minutes: more than one replica can do."""
    chance = random.Random(2)  # noqa: S311
    yield from (burst * 14_400 + 777 + chance.uniform(0, 300) for burst in range(6) for _ in range(40))


def _nightly() -> Iterator[float]:
    """Two hours without a pause."""
    chance = random.Random(3)  # noqa: S311
    yield from (7200 + chance.uniform(0, 7200) for _ in range(400))


SHAPES = [
    Shape("steady", tuple(_steady()), 1, 57),
    Shape("bursty", tuple(_bursty()), 3, 6),
    Shape("nightly", tuple(_nightly()), 3, 1),
]


def trace(shape: Shape) -> list[Seen]:
    """Calls of all lengths, some with a prompt that is in the dearer tier, some of it from a cache."""
    chance = random.Random(shape.name)  # noqa: S311
    seen = []
    for at_s in sorted(shape.moments):
        prompt = chance.choice([200, 800, 1500, 9000])
        used = {
            "tokens.input": Decimal(prompt - prompt // 4),
            "tokens.input.cached": Decimal(prompt // 4),
            "tokens.output": Decimal(chance.randint(50, 700)),
        }
        seen.append(Seen(at_s, used))
    return seen


def off(said: Decimal, charged: Decimal) -> Decimal:
    return abs(said - charged) / charged


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_what_replicas_would_cost_is_what_is_charged_for_them(shape: Shape) -> None:
    team = TeamFactory()
    model, hardware = smollm2()
    priced(hardware.sku, compute_starting="0.000004")
    seen = trace(shape)
    row = operations.deploy(
        team, model=model, hardware=hardware, actor="test", max_replicas=shape.most, target_concurrency=4
    )
    machine = Machine("cpu-small", "CPU small", pricing.prices_at(hardware.sku), SPEED, START_S)
    said = costing.serverless(Traced(seen), Decimal(len(seen)), machine, Elastic(600, most=shape.most))
    calls = [Call(one.at_s, SPEED.lasts_s(float(one.prompt), float(one.output))) for one in seen]
    replicas = replaying.replay(row, calls, start_s=START_S)
    charged = LedgerEntry.objects.filter(team=team, meter__startswith="compute.").aggregate(sum=Sum("amount"))["sum"]
    assert said.monthly is not None
    assert said.uptime is not None
    assert off(said.monthly, charged) < ONE_PERCENT, (said, charged)
    assert said.uptime.most >= shape.most, "one that ends may do so beside a new one"
    assert said.uptime.wakes == shape.wakes
    assert replicas >= shape.wakes


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_what_hosted_would_cost_is_what_is_charged_for_it_to_the_last_digit(shape: Shape) -> None:
    team = TeamFactory()
    priced("hosted:x", tokens_input="0.0000014", tokens_input_cached="0.00000014", tokens_output="0.0000028")
    moment = replaying.BEGINS - timedelta(days=1)
    pricing.set_price(
        "hosted:x", meter="tokens.input", amount=Decimal("0.0000021"), above_tokens=4000, valid_from=moment,
        source="a test", source_date=moment.date(),
    )  # fmt: skip
    prices = pricing.prices_at("hosted:x", at=replaying.BEGINS)
    seen = trace(shape)[:40]
    said = costing.hosted(Traced(seen), Decimal(len(seen)), prices)
    for one in seen:
        at = replaying.moment(one.at_s)
        call = Reservation(
            id=uuid.uuid4(), team_id=team.pk, time_zone=team.time_zone, path="hosted", sku="hosted:x", source="x",
            model_name="X", api_key_name="", prices=prices, estimate=one.quantities, most=one.quantities, started_at=at,
        )  # fmt: skip
        metering.reserve(call)
        metering.settle(Settlement(id=call.id, quantities=one.quantities, raw_usage=None, ended_at=at))
    charged = LedgerEntry.objects.filter(team=team).aggregate(sum=Sum("amount"))["sum"]
    assert said.monthly == charged
