"""What a month would cost: hosted, and on replicas of one's own. Pure; all money goes through `billing.rating`.

What is not known is named and never guessed: an estimate without one of its numbers is none.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from billing import rating
from billing.errors import BadQuantity, UnpricedMeter
from billing.meters import CHARGED_AS, COMPUTE_SECONDS, COMPUTE_STARTING, METERS
from billing.rating import DISCOUNT, Line
from deployments.advice.fleet import Uptime
from deployments.advice.traffic import Bundle, Speed, Traffic
from deployments.scaling import MOST_REPLICAS, Limits

_MICROSECOND = Decimal("0.000001")


class Way(StrEnum):
    HOSTED = "hosted"
    SERVERLESS = "serverless"  # scales to zero
    ALWAYS_ON = "always-on"


@dataclass(frozen=True, slots=True)
class Gap:
    """A number that is not known: `field` says where it can be entered."""

    field: str
    text: str


@dataclass(frozen=True, slots=True)
class Machine:
    """A hardware as far as it is known for these weights. `prices` as billing rates with them; `why_not`: it can't run
    there at all; `offered`: a backend of this portal has it now; `room`: no more replicas than that."""

    slug: str
    name: str
    prices: Mapping[str, Decimal] = field(default_factory=dict)
    speed: Speed | None = None
    start_s: float | None = None
    why_not: str = ""
    offered: bool = True
    room: int | None = None
    first_token_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Elastic:
    """How a deployment would scale, between `always` and `most`; None: as many as the busiest moment needs."""

    idle_window_s: int = 600
    most: int | None = None
    always: int | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """A month in one way. `monthly` None: something is not known (`gaps`), or it can't be (`why_not`). `lines` are
    what is on the bill, their sum is `monthly`; `known` is the sum of those that have a price. `limits` is what the
    cost holds for, of each of `deployments`; `short_of`: so many replicas would be needed."""

    way: Way
    machine: Machine | None = None
    monthly: Decimal | None = None
    lines: Sequence[Line] = ()
    gaps: Sequence[Gap] = ()
    why_not: str = ""
    uptime: Uptime | None = None
    limits: Limits | None = None
    deployments: int = 1
    short_of: int | None = None

    @property
    def known(self) -> Decimal:
        return rating.total(self.lines)

    @property
    def key(self) -> str:
        return f"{self.way}/{self.machine.slug}" if self.machine else str(self.way)


def hosted(traffic: Traffic, calls: Decimal, prices: Mapping[str, Decimal]) -> Cost:
    """By the prices in force, in the tier of each prompt, less the team's discount."""
    lines: list[Line] = []
    unpriced: list[str] = []
    for bundle in traffic.bundles(calls, _tiers(prices)):
        flat = _flat(bundle, prices)
        for meter, quantity in bundle.quantities.items():
            try:
                lines += rating.rate({meter: quantity}, flat)
            except UnpricedMeter:
                unpriced.append(meter)
    gaps = [Gap(f"price:{meter}", _not_listed(meter)) for meter in dict.fromkeys(map(_charged_as, unpriced))]
    merged = _merged(lines)
    return Cost(Way.HOSTED, monthly=None if gaps else rating.total(merged), lines=merged, gaps=gaps)


def serverless(traffic: Traffic, calls: Decimal, machine: Machine, elastic: Elastic) -> Cost:
    """Asleep while nothing is asked: every start, and the idle window after the last call, is on the bill."""
    gaps = _gaps(machine)
    if machine.start_s is None:
        gaps.append(Gap(f"start:{machine.slug}", f"how long a start takes on {machine.name} is not measured"))
    if machine.why_not or gaps or machine.speed is None or machine.start_s is None:
        return Cost(Way.SERVERLESS, machine, gaps=() if machine.why_not else gaps, why_not=machine.why_not)
    needed = _needed(traffic, calls, machine.speed)
    most = min(filter(None, (elastic.most or needed, machine.room)))
    return _compute(Way.SERVERLESS, traffic, calls, machine=machine, elastic=elastic, least=0, most=most)


def always_on(traffic: Traffic, calls: Decimal, machine: Machine, elastic: Elastic) -> Cost:
    """Never fewer than what the busiest moment needs, or than was asked for; then the others come and go."""
    gaps = _gaps(machine)
    if machine.why_not or gaps or machine.speed is None:
        return Cost(Way.ALWAYS_ON, machine, gaps=() if machine.why_not else gaps, why_not=machine.why_not)
    needed = _needed(traffic, calls, machine.speed)
    most = min(filter(None, (elastic.most or max(needed, elastic.always or 1), machine.room)))
    least = min(elastic.always or needed, most)
    return _compute(Way.ALWAYS_ON, traffic, calls, machine=machine, elastic=elastic, least=least, most=most)


def _compute(
    way: Way, traffic: Traffic, calls: Decimal, *, machine: Machine, elastic: Elastic, least: int, most: int
) -> Cost:
    """More replicas than a deployment may have are those of several alike, each with its part of the calls."""
    assert machine.speed is not None  # noqa: S101 - both ways have asked
    many = math.ceil(most / MOST_REPLICAS)
    limits = Limits(math.ceil(least / many), math.ceil(most / many), machine.speed.at_once, elastic.idle_window_s)
    one = traffic.play(calls / many, machine.speed, limits, start_s=machine.start_s or 0.0)
    found = one.times(many)
    quantities = {COMPUTE_STARTING.name: _seconds(found.starting_s), COMPUTE_SECONDS.name: _seconds(found.awake_s)}
    try:
        lines = rating.rate(quantities, machine.prices)
    except BadQuantity:
        return Cost(way, machine, why_not="more replicas than can be reckoned with")
    needed = _needed(traffic, calls, machine.speed)
    return Cost(
        way,
        machine,
        monthly=rating.total(lines),
        lines=lines,
        uptime=found,
        limits=limits,
        deployments=many,
        short_of=needed if needed > limits.most * many else None,
    )


def _needed(traffic: Traffic, calls: Decimal, speed: Speed) -> int:
    return math.ceil(traffic.busiest(calls, speed) / speed.at_once)


def _gaps(machine: Machine) -> list[Gap]:
    gaps = []
    if COMPUTE_SECONDS.name not in machine.prices:
        gaps.append(Gap(f"hour:{machine.slug}", f"what an hour of {machine.name} costs is not listed"))
    if machine.speed is None:
        gaps.append(Gap(f"speed:{machine.slug}", f"how fast it is on {machine.name} is not measured"))
    return gaps


def _tiers(prices: Mapping[str, Decimal]) -> list[int]:
    return sorted({above for meter in METERS for above, _ in rating.tiers(meter, prices) if above})


def _flat(bundle: Bundle, prices: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """What each meter costs with a prompt so long, whatever the sum of the prompts is."""
    found = {meter: rating.price_of(meter, prices, prompt=bundle.prompt) for meter in bundle.quantities}
    flat = {meter: price for meter, price in found.items() if price is not None}
    return flat | ({DISCOUNT: prices[DISCOUNT]} if DISCOUNT in prices else {})


def _merged(lines: Sequence[Line]) -> list[Line]:
    """One line for each meter and price."""
    found: dict[tuple[str, Decimal], list[Line]] = {}
    for line in lines:
        found.setdefault((line.meter, line.unit_price), []).append(line)
    return [
        Line(
            meter,
            rating.add(line.quantity for line in same),
            price,
            rating.total(same),
            same[0].list_price,
            same[0].discount,
        )
        for (meter, price), same in found.items()
    ]


def _charged_as(meter: str) -> str:
    """The class whose price would be enough."""
    while meter in CHARGED_AS:
        meter = CHARGED_AS[meter]
    return meter


def _not_listed(meter: str) -> str:
    return f"the price of {METERS[meter].label.lower()} is not listed"


def _seconds(seconds: float) -> Decimal:
    return Decimal(seconds).quantize(_MICROSECOND)
