"""Which way is the cheapest for this traffic, what each costs, and where they break even. Pure: all that is known is
handed in, and what is not known stays open.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache

from catalog.advisor import PathState
from deployments.advice import costing, crossing
from deployments.advice.costing import Cost, Elastic, Gap, Machine, Way
from deployments.advice.crossing import Crossing, Reach
from deployments.advice.traffic import Traced, Traffic

# A replayed trace is slow work: fewer points are looked at, nearer by.
OF_RHYTHM, OF_TRACE = Reach(), Reach(below=1, above=1, steps_in_ten=4)
# The chart is drawn in equal steps as far as the break-even is within this reach of what is asked about.
NEAR = 8


@dataclass(frozen=True, slots=True)
class Wish:
    """What callers want. `accepts_cold`: some may wait while a replica starts."""

    accepts_cold: bool = True
    tokens_per_s: float | None = None
    first_token_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """`hosted` and `deployable` say which path the model's weights leave open, and why; `hosted_prices` {}: no price
    is listed. `hosted_note`, `own_note`: what else stands in the way of using it today."""

    name: str
    traffic: Traffic
    hosted: PathState
    deployable: PathState
    hosted_prices: Mapping[str, Decimal] = field(default_factory=dict)
    machines: Sequence[Machine] = ()
    elastic: Elastic = field(default_factory=Elastic)
    wish: Wish = field(default_factory=Wish)
    hosted_note: str = ""
    own_note: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """A cost, and why it is not taken though it may be the lowest; empty: it may be."""

    cost: Cost
    unfit: str = ""
    crossing: Crossing | None = None

    @property
    def is_open(self) -> bool:
        return self.cost.monthly is not None and not self.unfit


@dataclass(frozen=True, slots=True)
class Point:
    calls: int
    cost: Decimal


@dataclass(frozen=True, slots=True)
class Line:
    """What a way costs at other volumes."""

    key: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Advice:
    """`best` is the cheapest of those that fit the wish; `second` the cheapest on the other path. `gaps` are all that
    would have to be known to compare everything. `is_log`: the lines reach over powers of ten."""

    question: Question
    hosted: Choice
    own: Sequence[Choice]
    best: Choice | None
    second: Choice | None
    lines: Sequence[Line]
    is_log: bool

    @property
    def choices(self) -> list[Choice]:
        return [self.hosted, *self.own]

    @property
    def gaps(self) -> list[Gap]:
        found = {gap.field: gap for choice in self.choices for gap in choice.cost.gaps}
        return list(found.values())

    @property
    def calls(self) -> Decimal:
        return self.question.traffic.calls


def advise(question: Question) -> Advice:
    traffic = question.traffic
    calls = max(1, int(traffic.calls))
    ways = _ways(question)
    hosted = Choice(ways[0](traffic.calls))
    own = [_choice(way(traffic.calls), question) for way in ways[1:]]
    if hosted.cost.monthly is not None and traffic.calls:
        own = [_with_crossing(choice, way, ways[0], question, calls) for choice, way in zip(own, ways[1:], strict=True)]
    opened = sorted((choice for choice in (hosted, *own) if choice.is_open and traffic.calls), key=_monthly)
    best = opened[0] if opened else None
    second = next((one for one in opened if best and _is_hosted(one) != _is_hosted(best)), None)
    points, is_log = _reach(calls, [choice.crossing for choice in own if choice.crossing], traffic)
    lines = [
        Line(choice.cost.key, [Point(point, monthly) for point in points if (monthly := way_of(point)) is not None])
        for choice, way in zip([hosted, *own], ways, strict=True)
        if choice.cost.monthly is not None
        for way_of in [_monthly_of(way)]
    ]
    return Advice(question, hosted, own, best, second, lines, is_log)


def unfit(cost: Cost, wish: Wish) -> str:  # noqa: PLR0911 - one for each reason
    """Why it is not what callers want, or can't do it; empty if it is."""
    machine, uptime = cost.machine, cost.uptime
    if machine is None or uptime is None or machine.speed is None or cost.limits is None:
        return ""
    if cost.short_of:
        return f"{_replicas(cost.short_of)} would be needed at the busiest moment, and {cost.limits.most} may run"
    if not wish.accepts_cold and cost.way == Way.SERVERLESS and uptime.held:
        many = max(1, round(uptime.held))
        return f"about {many:,} {'call' if many == 1 else 'calls'} a month would wait for a start"
    of_one = machine.speed.writes / machine.speed.at_once
    if wish.tokens_per_s and of_one < wish.tokens_per_s:
        return f"it writes {of_one:.3g} tokens/s for one caller, and {wish.tokens_per_s:g} are wished"
    if wish.first_token_ms:
        if machine.first_token_ms is None:
            return "how long the first token takes there is not measured"
        if machine.first_token_ms > wish.first_token_ms:
            return (
                f"the first token takes {machine.first_token_ms:,.0f} ms there, {wish.first_token_ms:,.0f} are wished"
            )
    return ""


def _ways(question: Question) -> list[Callable[[Decimal], Cost]]:
    """Hosted first; then, for each hardware, asleep when idle and always on. Each is asked once about a number."""
    traffic, elastic = question.traffic, question.elastic

    def hosted(calls: Decimal) -> Cost:
        if not question.hosted.is_open:
            return Cost(Way.HOSTED, why_not=question.hosted.reason)
        return costing.hosted(traffic, calls, question.hosted_prices)

    ways: list[Callable[[Decimal], Cost]] = [cache(hosted)]
    for machine in question.machines if question.deployable.is_open else ():

        def asleep(calls: Decimal, machine: Machine = machine) -> Cost:
            return costing.serverless(traffic, calls, machine, elastic)

        def always(calls: Decimal, machine: Machine = machine) -> Cost:
            return costing.always_on(traffic, calls, machine, elastic)

        ways += [cache(asleep), cache(always)]
    return ways


def _choice(cost: Cost, question: Question) -> Choice:
    return Choice(cost, unfit(cost, question.wish))


def _with_crossing(
    choice: Choice, way: Callable[[Decimal], Cost], hosted: Callable[[Decimal], Cost], question: Question, calls: int
) -> Choice:
    if choice.cost.monthly is None:
        return choice
    points = [n for n in _grid(calls, question.traffic) if way(Decimal(n)).monthly is not None]
    found = crossing.find(_exact(hosted), _exact(way), points)
    return Choice(choice.cost, choice.unfit, crossing.nearest(found, calls))


def _grid(calls: int, traffic: Traffic) -> list[int]:
    reach = OF_TRACE if isinstance(traffic, Traced) else OF_RHYTHM
    return crossing.grid(calls, reach=reach, most=int(traffic.most_calls))


def _reach(calls: int, crossings: Sequence[Crossing], traffic: Traffic) -> tuple[list[int], bool]:
    """For which numbers of calls the lines are drawn."""
    marks = [calls, *(one.calls for one in crossings)]
    if isinstance(traffic, Traced):
        return sorted({*_grid(calls, traffic), *marks}), False
    near = [mark for mark in marks if mark <= NEAR * calls]
    if len(near) < len(marks) and len(near) == 1:
        low, high = max(1, calls // 10), 4 * max(marks)
        steps = 56
        raised = {max(1, round(low * (high / low) ** (n / steps))) for n in range(steps + 1)}
        return sorted({*raised, *marks}), True
    most = max(2, round(1.5 * max(near)))
    steps = 48
    return sorted({max(1, round(most * n / steps)) for n in range(1, steps + 1)} | {*near, 1}), False


def _exact(way: Callable[[Decimal], Cost]) -> Callable[[int], Decimal]:
    def monthly(calls: int) -> Decimal:
        found = way(Decimal(calls)).monthly
        assert found is not None  # noqa: S101 - it was for more calls
        return found

    return monthly


def _monthly_of(way: Callable[[Decimal], Cost]) -> Callable[[int], Decimal | None]:
    return lambda calls: way(Decimal(calls)).monthly


def _monthly(choice: Choice) -> Decimal:
    assert choice.cost.monthly is not None  # noqa: S101 - it is open
    return choice.cost.monthly


def _is_hosted(choice: Choice) -> bool:
    return choice.cost.way == Way.HOSTED


def _replicas(count: int) -> str:
    return f"{count} replica{'' if count == 1 else 's'}"
