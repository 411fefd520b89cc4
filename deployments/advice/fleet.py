"""How long replicas run for given calls: a clock that jumps from event to event through the real scaling rules. Pure.

What happens between two looks of `scaling.wish` is as in planning: a call for a sleeper starts one replica (or the
least); nothing more is started before one is ready; a replica that has to go ends once its calls are answered. Each
call goes to the ready replica that has the fewest, and waits there for one of its places. Times are in seconds.
"""

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from deployments import scaling
from deployments.scaling import DRAIN_FOR, STABLE_FOR, Limits, Load, Surplus, Wish

# The sweep looks so often: what nobody rings for is noticed then.
LOOKS_EVERY_S = 5.0
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_NEVER = math.inf


@dataclass(frozen=True, slots=True)
class Call:
    """It comes at a moment, and takes so long from the moment that a replica has a place for it."""

    at_s: float
    lasts_s: float


@dataclass(frozen=True, slots=True)
class Flow:
    """Calls that come so close to one another that `calls` are in flight all the time; `per_s` come each second."""

    begin_s: float
    end_s: float
    calls: int
    per_s: float


@dataclass(frozen=True, slots=True)
class Span:
    """One replica, from its engine's start to its exit. `ready_s` None: it had to go before it was ready."""

    began_s: float
    ready_s: float | None
    ended_s: float


@dataclass(frozen=True, slots=True)
class Story:
    """What happened. `wakes`: when a call found nothing awake; `held`: (when, how many calls) waited for a start."""

    spans: Sequence[Span]
    wakes: Sequence[float]
    held: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Uptime:
    """Of all replicas together: seconds on the meter of starting, and after it; how often it woke, how many calls
    waited for that, and the most replicas at once."""

    starting_s: float
    awake_s: float
    wakes: float
    held: float
    most: int

    @property
    def billed_s(self) -> float:
        return self.starting_s + self.awake_s

    def times(self, count: int) -> "Uptime":
        """Of so many fleets alike."""
        starting_s, awake_s = self.starting_s * count, self.awake_s * count
        return Uptime(starting_s, awake_s, self.wakes * count, self.held * count, self.most * count)


def run(
    calls: Iterable[Call],
    flows: Iterable[Flow] = (),
    *,
    limits: Limits,
    start_s: float,
    until_s: float = _NEVER,
) -> Story:
    """From nothing awake at 0 s. It ends when nothing is to come; or at `until_s`, where what runs is cut off."""
    fleet = _Fleet(limits, start_s)
    arrivals = sorted(calls, key=lambda call: call.at_s)
    edges = sorted([(flow.begin_s, 1, flow) for flow in flows] + [(flow.end_s, -1, flow) for flow in flows], key=_edge)
    coming, edge, now = 0, 0, 0.0
    fleet.look(now)
    while True:
        moments = [fleet.next_s(now)]
        if coming < len(arrivals):
            moments.append(arrivals[coming].at_s)
        if edge < len(edges):
            moments.append(edges[edge][0])
        now = min(moments)
        if now >= until_s or now == _NEVER:
            break
        fleet.pass_to(now)
        while edge < len(edges) and edges[edge][0] <= now:
            _, sign, flow = edges[edge]
            fleet.flow(flow, sign, now)
            edge += 1
        while coming < len(arrivals) and arrivals[coming].at_s <= now:
            fleet.take(arrivals[coming], now)
            coming += 1
        fleet.look(now)
    fleet.cut(until_s)
    return Story(fleet.spans, fleet.wakes, fleet.held)


def uptime(story: Story, *, begin_s: float = 0.0, end_s: float = _NEVER) -> Uptime:
    """What of it lies in [begin_s, end_s). Replicas that were never ready are not in it: they cost nothing."""
    starting = awake = 0.0
    edges: list[tuple[float, int]] = []
    for span in story.spans:
        if span.ready_s is None:
            continue
        begin, end = max(span.began_s, begin_s), min(span.ended_s, end_s)
        if begin >= end:
            continue
        turn = min(max(span.ready_s, begin), end)
        starting += turn - begin
        awake += end - turn
        edges += [(begin, 1), (end, -1)]
    return Uptime(
        starting_s=starting,
        awake_s=awake,
        wakes=sum(begin_s <= at < end_s for at in story.wakes),
        held=sum(count for at, count in story.held if begin_s <= at < end_s),
        most=_most(edges),
    )


def most_at_once(calls: Iterable[Call], flows: Iterable[Flow] = ()) -> int:
    """How many calls are in flight at the busiest moment, if each is answered as it comes."""
    edges = [edge for call in calls for edge in ((call.at_s, 1), (call.at_s + call.lasts_s, -1))]
    edges += [edge for flow in flows for edge in ((flow.begin_s, flow.calls), (flow.end_s, -flow.calls))]
    return _most(edges)


def _most(edges: list[tuple[float, int]]) -> int:
    count = most = 0
    for _, change in sorted(edges):
        count += change
        most = max(most, count)
    return most


def _edge(edge: tuple[float, int, Flow]) -> tuple[float, int]:
    return edge[:2]


@dataclass(slots=True)
class _Replica:
    began_s: float
    ready_s: float
    free: list[float]
    """When each of its places is free, a heap."""
    calls: int = 0
    last_end_s: float = 0.0


@dataclass(slots=True)
class _Fleet:
    limits: Limits
    start_s: float
    spans: list[Span] = field(default_factory=list)
    wakes: list[float] = field(default_factory=list)
    held: list[tuple[float, float]] = field(default_factory=list)
    _replicas: list[_Replica] = field(default_factory=list)
    _ends: list[tuple[float, int, _Replica]] = field(default_factory=list)
    _waiting: list[Call] = field(default_factory=list)
    _in_flight: int = 0
    _flowing: list[Flow] = field(default_factory=list)
    _surplus: Surplus | None = None
    _busy_s: float = 0.0
    _looked_s: float = 0.0
    """-inf: something has changed since."""
    _serial: int = 0
    _wishes: dict[tuple[int, int], Wish] = field(default_factory=dict)

    def next_s(self, now: float) -> float:
        """When something happens by itself: a replica is ready, a call ends, or it is time to look."""
        moments = [replica.ready_s for replica in self._replicas if replica.ready_s > now]
        if self._ends:
            moments.append(self._ends[0][0])
        if (due := self._due()) < _NEVER:
            moments.append(max(math.ceil(due / LOOKS_EVERY_S), math.floor(now / LOOKS_EVERY_S) + 1) * LOOKS_EVERY_S)
        return min(moments, default=_NEVER)

    def pass_to(self, now: float) -> None:
        """Calls that end until then; replicas that are ready take those that waited."""
        if self._load:
            self._busy_s = now
        while self._ends and self._ends[0][0] <= now:
            _, _, replica = heapq.heappop(self._ends)
            replica.calls -= 1
            self._in_flight -= 1
        if self._waiting and self._ready(now):
            waiting, self._waiting = self._waiting, []
            for call in waiting:
                self._give(call, now)

    def take(self, call: Call, now: float) -> None:
        if self._ready(now):
            self._give(call, now)
            return
        self._waiting.append(call)
        self.held.append((now, 1.0))

    def flow(self, flow: Flow, sign: int, now: float) -> None:
        if sign < 0:
            self._flowing.remove(flow)
            return
        self._flowing.append(flow)
        if not self._ready(now):
            ready_s = min((replica.ready_s for replica in self._replicas), default=now + self.start_s)
            self.held.append((now, max(1.0, flow.per_s * min(ready_s - now, flow.end_s - flow.begin_s))))

    def look(self, now: float) -> None:
        """At once where calls wait, are more than the replicas are for, or one has just become ready; else by the
        sweep."""
        load = self._load
        if load:
            self._busy_s = now
        if not self._replicas:
            if load or self.limits.least:
                self._start(max(1, self.limits.least), now)
                self.wakes += [now] if load else []
            return
        ready = self._ready(now)
        if not ready:
            self._looked_s = now  # the next look is when one is
            return
        crowded = load > len(ready) * self.limits.per_replica and len(ready) < self.limits.most
        if not crowded and now % LOOKS_EVERY_S and all(replica.ready_s != now for replica in ready):
            self._looked_s = -_NEVER
            return
        before, self._looked_s = len(self._replicas), now
        wish = self._wish(load, ready, now)
        self._surplus = wish.surplus
        if wish.replicas > len(self._replicas):
            self._start(wish.replicas - len(self._replicas), now)
        elif wish.replicas < len(self._replicas):
            # Those that are not ready first, then the ones with the fewest calls, the youngest of them.
            order = sorted(self._replicas, key=lambda one: (one.ready_s <= now, one.calls, -one.began_s))
            for replica in order[: len(self._replicas) - wish.replicas]:
                self._end(replica, now)
        if before != len(self._replicas):
            self._looked_s = -_NEVER

    def cut(self, until_s: float) -> None:
        """With `until_s` endless nothing is left to be cut: it sleeps."""
        for replica in list(self._replicas):
            self._end(replica, until_s)

    @property
    def _load(self) -> int:
        return self._in_flight + len(self._waiting) + sum(flow.calls for flow in self._flowing)

    def _wish(self, load: int, ready: list[_Replica], now: float) -> Wish:
        asked = (load, len(self._replicas))
        if self._surplus is None and load and (known := self._wishes.get(asked)):
            return known
        wish = scaling.wish(
            Load(in_flight=load),
            self.limits,
            awake=len(self._replicas),
            surplus=self._surplus,
            last_busy_at=_moment(max(self._busy_s, min(replica.ready_s for replica in ready))),
            now=_moment(now),
        )
        if self._surplus is None and load and wish.surplus is None:  # then no clock is in it
            self._wishes[asked] = wish
        return wish

    def _due(self) -> float:
        """When the sweep has something to notice: what has changed since the last look, or that the idle window, or
        the time for which fewer have to be enough, is over."""
        if not self._replicas:
            return _NEVER
        if self._looked_s == -_NEVER:
            return 0.0
        due = _NEVER
        if self._surplus is not None:
            due = (self._surplus.since + STABLE_FOR - _EPOCH).total_seconds()
        if not self._load and not self.limits.least:
            ready_s = min(replica.ready_s for replica in self._replicas)
            due = min(due, max(self._busy_s, ready_s) + self.limits.idle_window_s)
        return due

    def _ready(self, now: float) -> list[_Replica]:
        return [replica for replica in self._replicas if replica.ready_s <= now]

    def _start(self, count: int, now: float) -> None:
        places = [0.0] * self.limits.per_replica
        self._replicas += [_Replica(now, now + self.start_s, places[:]) for _ in range(count)]

    def _give(self, call: Call, now: float) -> None:
        replica = min(self._ready(now), key=lambda one: one.calls)
        begin = max(now, heapq.heappop(replica.free))
        end = begin + call.lasts_s
        heapq.heappush(replica.free, end)
        replica.calls += 1
        replica.last_end_s = max(replica.last_end_s, end)
        self._in_flight += 1
        self._serial += 1
        heapq.heappush(self._ends, (end, self._serial, replica))

    def _end(self, replica: _Replica, now: float) -> None:
        """No call is sent to it any more, and those that it has may go on for DRAIN_FOR."""
        self._replicas.remove(replica)
        ready_s = replica.ready_s if replica.ready_s <= now else None
        ends_s = min(max(now, replica.last_end_s), now + DRAIN_FOR.total_seconds())
        if ends_s < replica.last_end_s:
            self._ends = [(min(at, ends_s) if one is replica else at, n, one) for at, n, one in self._ends]
            heapq.heapify(self._ends)
        self.spans.append(Span(replica.began_s, ready_s, ends_s))
        if not self._replicas:
            self._surplus = None


def _moment(seconds: float) -> datetime:
    return _EPOCH + timedelta(seconds=seconds)
