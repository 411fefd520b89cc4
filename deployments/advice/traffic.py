"""When calls come, and how many: by a rhythm that somebody describes, or as the ledger has seen them. Pure.

Both answer the same questions for any number of calls a month, so that a break-even can be looked for: what is used of
each meter, and how long replicas run for it. A month of a rhythm has 730 hours; a trace is a month of 30 days.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from typing import Protocol

from billing.meters import OUTPUT, PROMPT, TOKENS_INPUT, TOKENS_INPUT_CACHED, TOKENS_OUTPUT
from deployments.advice import fleet
from deployments.advice.fleet import Call, Flow, Uptime
from deployments.scaling import Limits

DAY_S = 86_400
MONTH_S, TRACE_S = 730 * 3600, 30 * DAY_S
# A trace of more calls is put together by the hour; and one that is played at a larger volume ends here.
MOST_CALLS, MOST_PLAYED = 1500, 6000
# No break-even is looked for beyond: billing keeps quantities below 10^15.
MOST_TOKENS = Decimal(2 * 10**14)
# Copies of a call, at a larger volume, come within so many seconds after it.
COPIES_WITHIN_S = 60.0
_MILLIONTH = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Speed:
    """One replica: tokens a second that it reads and writes, of all callers together, with so many calls at once."""

    reads: float
    writes: float
    at_once: int

    def lasts_s(self, input_tokens: float, output_tokens: float) -> float:
        """A call takes so long while the replica is full: its own work, `at_once` times."""
        return self.at_once * (input_tokens / self.reads + output_tokens / self.writes)


@dataclass(frozen=True, slots=True)
class Bundle:
    """Calls whose prompts are in the same tier: `prompt` is the longest, `quantities` what they use together."""

    prompt: Decimal
    quantities: Mapping[str, Decimal]


class Traffic(Protocol):
    """`calls` is the number a month that was asked for; any other may be asked about."""

    @property
    def calls(self) -> Decimal: ...
    @property
    def month_s(self) -> int: ...
    @property
    def tokens_per_call(self) -> Decimal: ...
    @property
    def most_calls(self) -> Decimal:
        """No more can be played."""
        ...

    def bundles(self, calls: Decimal, tiers: Sequence[int]) -> list[Bundle]: ...

    def busiest(self, calls: Decimal, speed: Speed) -> int:
        """The most calls in flight at once."""
        ...

    def play(self, calls: Decimal, speed: Speed, limits: Limits, *, start_s: float) -> Uptime:
        """How long replicas run in a month."""
        ...


@dataclass(frozen=True, slots=True)
class Rhythm:
    """On the first `days` of a week, `times` a day, for `minutes`; within them, calls are spread evenly."""

    days: int
    times: int
    minutes: float

    @property
    def period_s(self) -> int:
        return DAY_S if self.days == 7 else 7 * DAY_S

    @property
    def window_s(self) -> float:
        return self.minutes * 60

    @property
    def begins(self) -> list[float]:
        """Of one period."""
        days = 1 if self.days == 7 else self.days
        return [day * DAY_S + n * DAY_S / self.times for day in range(days) for n in range(self.times)]


# What the names of shapes mean; every part can be changed.
RHYTHMS = {
    "steady": Rhythm(7, 1, 1440),
    "office": Rhythm(5, 1, 480),
    "bursty": Rhythm(7, 6, 20),
    "nightly": Rhythm(7, 1, 120),
}


@dataclass(frozen=True)
class Rhythmic:
    """Calls that are all alike. `peak`: at its busiest, so many times the even flow are in flight. `own_cached`: the
    part of a prompt that a replica of one's own need not read again."""

    calls: Decimal
    input_tokens: int
    output_tokens: int
    rhythm: Rhythm
    cached: Decimal = Decimal(0)
    own_cached: Decimal = Decimal(0)
    peak: float = 1.0
    month_s: int = MONTH_S

    @property
    def most_calls(self) -> Decimal:
        return max(self.calls, MOST_TOKENS // self.tokens_per_call)

    @property
    def tokens_per_call(self) -> Decimal:
        return Decimal(self.input_tokens + self.output_tokens)

    @property
    def cached_tokens(self) -> int:
        return int(self.input_tokens * self.cached)

    def bundles(self, calls: Decimal, tiers: Sequence[int]) -> list[Bundle]:
        each = {
            TOKENS_INPUT.name: self.input_tokens - self.cached_tokens,
            TOKENS_INPUT_CACHED.name: self.cached_tokens,
            TOKENS_OUTPUT.name: self.output_tokens,
        }
        used = {meter: (calls * count).quantize(_MILLIONTH) for meter, count in each.items() if count}
        return [Bundle(Decimal(self.input_tokens), used)]

    def busiest(self, calls: Decimal, speed: Speed) -> int:
        lasts_s = self._lasts_s(speed)
        in_window = self._in_window(calls)
        return max(1, math.ceil(in_window / self.rhythm.window_s * lasts_s * self.peak - 1e-9))

    def play(self, calls: Decimal, speed: Speed, limits: Limits, *, start_s: float) -> Uptime:
        """The second of two periods alike, so that what runs on from one into the next counts once."""
        if limits.least == limits.most:
            return _all_the_time(limits, self.month_s)
        in_window = self._in_window(calls)
        if self.rhythm.window_s <= limits.idle_window_s * in_window:
            level = self.busiest(calls, speed)
            flows = self._flows(level, in_window, self._lasts_s(speed))
            return self._of_month(fleet.run([], flows, limits=limits, start_s=start_s, until_s=self._end_s))
        few = math.floor(in_window)
        less, more = (self._few(count, speed, limits, start_s) for count in (few, few + 1))
        return _between(less, more, in_window - few)

    def _few(self, count: int, speed: Speed, limits: Limits, start_s: float) -> Uptime:
        """So few that it may sleep between them: each call for itself."""
        lasts_s, gap_s = self._lasts_s(speed), self.rhythm.window_s / max(count, 1)
        calls = [Call(begin + n * gap_s, lasts_s) for begin in self._begins for n in range(count)]
        return self._of_month(fleet.run(calls, limits=limits, start_s=start_s, until_s=self._end_s))

    def _flows(self, level: int, in_window: float, lasts_s: float) -> list[Flow]:
        per_s, length_s = in_window / self.rhythm.window_s, self.rhythm.window_s
        if self.rhythm.window_s * self.rhythm.times >= DAY_S and self.rhythm.days == 7:
            return [Flow(0.0, self._end_s, level, per_s)]
        return [Flow(begin, begin + length_s + lasts_s, level, per_s) for begin in self._begins]

    @property
    def _begins(self) -> list[float]:
        return [n * self.rhythm.period_s + begin for n in (0, 1) for begin in self.rhythm.begins]

    @property
    def _end_s(self) -> float:
        return 2.0 * self.rhythm.period_s

    def _of_month(self, story: fleet.Story) -> Uptime:
        found = fleet.uptime(story, begin_s=self.rhythm.period_s, end_s=self._end_s)
        return _times(found, self.month_s / self.rhythm.period_s)

    def _in_window(self, calls: Decimal) -> float:
        return float(calls) * self.rhythm.period_s / self.month_s / len(self.rhythm.begins)

    def _lasts_s(self, speed: Speed) -> float:
        return speed.lasts_s(self.input_tokens * (1 - float(self.own_cached)), self.output_tokens)


@dataclass(frozen=True, slots=True)
class Seen:
    """Calls of the ledger: when, in seconds from the trace's begin, and what was used. `count` of them, one after the
    other, within `spread_s`; the quantities are of all."""

    at_s: float
    quantities: Mapping[str, Decimal]
    count: int = 1
    spread_s: float = 0.0

    @property
    def prompt(self) -> Decimal:
        return sum((number for meter, number in self.quantities.items() if meter in PROMPT), Decimal(0))

    @property
    def output(self) -> Decimal:
        return sum((number for meter, number in self.quantities.items() if meter in OUTPUT), Decimal(0))


@dataclass(frozen=True)
class Traced:
    """The team's own calls of 30 days, each at its moment. At another volume each counts more than once, or some are
    left out, evenly."""

    seen: Sequence[Seen]
    own_cached: Decimal = Decimal(0)
    month_s: int = TRACE_S

    @cached_property
    def calls(self) -> Decimal:
        return Decimal(sum(one.count for one in self.seen))

    @cached_property
    def tokens_per_call(self) -> Decimal:
        tokens = sum((one.prompt + one.output for one in self.seen), Decimal(0))
        return tokens / self.calls if self.calls else Decimal(0)

    @property
    def most_calls(self) -> Decimal:
        return self.calls * 1000 if self._is_by_hour else max(self.calls, Decimal(MOST_PLAYED))

    def bundles(self, calls: Decimal, tiers: Sequence[int]) -> list[Bundle]:
        """By the tier of each call's own prompt; of an hour's calls, by their mean."""
        part = calls / self.calls if self.calls else Decimal(0)
        found: dict[int, Bundle] = {}
        for one in self.seen:
            prompt = one.prompt / one.count
            tier = bisect_left(tiers, prompt)
            so_far = found.get(tier, Bundle(Decimal(0), {}))
            used = dict(so_far.quantities)
            for meter, number in one.quantities.items():
                used[meter] = used.get(meter, Decimal(0)) + number
            found[tier] = Bundle(max(so_far.prompt, prompt), used)
        return [replace(one, quantities=_shared(one.quantities, part)) for one in found.values()]

    def busiest(self, calls: Decimal, speed: Speed) -> int:
        return max(1, fleet.most_at_once(self._played(calls, speed), self._flows(calls, speed)))

    def play(self, calls: Decimal, speed: Speed, limits: Limits, *, start_s: float) -> Uptime:
        if limits.least == limits.most:
            return _all_the_time(limits, self.month_s)
        until_s = float(self.month_s) if limits.least else math.inf
        played, flows = self._played(calls, speed), self._flows(calls, speed)
        return fleet.uptime(fleet.run(played, flows, limits=limits, start_s=start_s, until_s=until_s))

    @property
    def _is_by_hour(self) -> bool:
        return any(one.count > 1 for one in self.seen)

    def _played(self, calls: Decimal, speed: Speed) -> list[Call]:
        if self._is_by_hour:
            return []
        wanted, have, found = int(calls), len(self.seen), []
        for n, one in enumerate(self.seen):
            copies = (n + 1) * wanted // have - n * wanted // have
            if not copies:
                continue
            after_s = self.seen[n + 1].at_s if n + 1 < have else one.at_s + COPIES_WITHIN_S
            gap_s = min(after_s - one.at_s, COPIES_WITHIN_S) / copies
            found += [Call(one.at_s + m * gap_s, self._lasts_s(one, speed)) for m in range(copies)]
        return found

    def _flows(self, calls: Decimal, speed: Speed) -> list[Flow]:
        if not self._is_by_hour:
            return []
        part, found = float(calls / self.calls), []
        for one in self.seen:
            per_s, lasts_s = one.count * part / one.spread_s, self._lasts_s(one, speed)
            found.append(Flow(one.at_s, one.at_s + one.spread_s, math.ceil(per_s * lasts_s), per_s))
        return found

    def _lasts_s(self, one: Seen, speed: Speed) -> float:
        read = float(one.prompt) * (1 - float(self.own_cached))
        return speed.lasts_s(read / one.count, float(one.output) / one.count)


def _all_the_time(limits: Limits, month_s: int) -> Uptime:
    return Uptime(0.0, float(limits.least * month_s), 0.0, 0.0, limits.least)


def _shared(quantities: Mapping[str, Decimal], part: Decimal) -> dict[str, Decimal]:
    if part == 1:
        return dict(quantities)
    return {meter: (number * part).quantize(_MILLIONTH) for meter, number in quantities.items()}


def _times(one: Uptime, factor: float) -> Uptime:
    return Uptime(one.starting_s * factor, one.awake_s * factor, one.wakes * factor, one.held * factor, one.most)


def _between(less: Uptime, more: Uptime, part: float) -> Uptime:
    """The mean of windows of which `part` have one call more."""
    rest = 1 - part
    return Uptime(
        starting_s=less.starting_s * rest + more.starting_s * part,
        awake_s=less.awake_s * rest + more.awake_s * part,
        wakes=less.wakes * rest + more.wakes * part,
        held=less.held * rest + more.held * part,
        most=more.most if part else less.most,
    )
