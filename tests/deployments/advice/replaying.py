"""A deployment's life for given calls, second by second: real plans, real bills; clock and engine are made.

`planning.plan` says what is to be done about what is seen; it is done here in memory, as acting does it. Each replica
that ends is closed by `uptime`, which bills it. The engine here answers `at_once` calls at a time, each for so long.
"""

from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from deployments import planning, uptime
from deployments.advice.fleet import Call
from deployments.backends import Observation, Seen
from deployments.endpoints import Address, Endpoint
from deployments.lifecycle import Reason, Status
from deployments.models import Deployment, Replica
from deployments.planning import View
from deployments.scaling import Surplus

BEGINS = datetime(2026, 11, 2, tzinfo=UTC)
SWEEP_S = 5


@dataclass(slots=True)
class Engine:
    """One replica and what it does. A call waits in its queue for one of its places."""

    row: Replica
    queue: deque[Call] = field(default_factory=deque)
    busy_until: list[float] = field(default_factory=list)
    exited: bool = False

    def seen(self, now: float, start_s: float) -> Observation:
        begun = self.row.started_at
        if self.exited or begun is None:
            return Observation(Seen.EXITED if self.exited else Seen.ABSENT, started_at=begun, asked=True)
        is_up = moment(now) >= begun + timedelta(seconds=start_s)
        return Observation(Seen.READY if is_up else Seen.STARTING, "http://x", begun, moment(now))

    @property
    def calls(self) -> int:
        return len(self.queue) + len(self.busy_until)

    def work(self, now: float, at_once: int) -> None:
        """Places that are free by now take the next calls, from when they were free."""
        while True:
            done = sorted(end for end in self.busy_until if end <= now)
            if len(self.busy_until) < at_once and self.queue:
                self.busy_until.append(max(now, self.queue[0].at_s) + self.queue.popleft().lasts_s)
            elif done:
                self.busy_until.remove(done[0])
            else:
                return


def moment(seconds: float) -> datetime:
    return BEGINS + timedelta(seconds=seconds)


def replay(row: Deployment, calls: list[Call], *, start_s: float) -> int:
    """Live through all of them, until it sleeps again; every replica is billed. How many there were."""
    row.status, row.status_since, row.reason = Status.ASLEEP, moment(0), Reason.IDLE
    row.last_call_at = row.deadline_at = row.surplus_since = None
    row.surplus_peak = 0
    engines: list[Engine] = []
    waiting: list[Call] = []
    coming, now, count = deque(sorted(calls, key=lambda call: call.at_s)), 0.0, 0
    while coming or waiting or engines or row.status != Status.ASLEEP:
        if not engines and not waiting:
            now = float(int(coming[0].at_s) + 1)  # nothing happens while it sleeps
        while coming and coming[0].at_s <= now:
            waiting.append(coming.popleft())
        if waiting and row.status == Status.ASLEEP:
            _move(row, Status.WAKING, now)
        waiting = _given(row, engines, waiting)
        for engine in engines:
            engine.work(now, row.target_concurrency)
        if waiting or any(engine.calls for engine in engines):
            row.last_call_at = moment(now)
        moving = row.status == Status.WAKING or any(engine.row.ready_at is None for engine in engines)
        if (
            _is_crowded(row, engines, waiting)
            or moving
            or now % SWEEP_S == 0
            or any(engine.row.remove_asked_at for engine in engines)
        ):
            for _ in range(8):
                actions = planning.plan(_view(row, engines, len(waiting), now, start_s))
                if not any([_act(action, row, engines, now) for action in actions]):
                    break
        count += _buried(row, engines, now)
        now += 1.0
        assert row.status != Status.FAILED
    return count


def _given(row: Deployment, engines: list[Engine], waiting: list[Call]) -> list[Call]:
    """A gateway sends each to the ready replica with the fewest."""
    takers = [one for one in engines if one.row.ready_at and not one.row.remove_asked_at]
    if row.status != Status.READY or not takers:
        return waiting
    for call in waiting:
        min(takers, key=lambda one: one.calls).queue.append(call)
    return []


def _is_crowded(row: Deployment, engines: list[Engine], waiting: list[Call]) -> bool:
    """Then its gateway rings for a worker at once."""
    taking = tuple(
        Address(one.row.name, "http://x", "") for one in engines if one.row.ready_at and not one.row.remove_asked_at
    )
    endpoint = Endpoint(
        deployment_id=row.pk, team_id=row.team_id, endpoint_model="x", name="x", model_name="x", model_slug="x",
        status=row.status, reason="", replicas=taking, context_tokens=None, reads_media=True, is_platform=False,
        expected_start_s=None, hold_s=None, max_replicas=row.max_replicas, target_concurrency=row.target_concurrency,
    )  # fmt: skip
    calls = {engine.row.name: engine.calls for engine in engines}
    return endpoint.is_crowded(calls, {row.pk: len(waiting)})


def _view(row: Deployment, engines: list[Engine], waiting: int, now: float, start_s: float) -> View:
    names = {engine.row.name: engine for engine in engines}
    return View(
        row,
        tuple(engine.row for engine in engines),
        {name: engine.seen(now, start_s) for name, engine in names.items()},
        moment(now),
        calls={name: engine.calls for name, engine in names.items()},
        waiting=waiting,
        listed=frozenset(name for name, engine in names.items() if not engine.exited),
    )


def _act(action: planning.Action, row: Deployment, engines: list[Engine], now: float) -> bool:
    """In memory, what acting does with rows and a backend. True if it has to be looked at again."""
    by_row = {id(engine.row): engine for engine in engines}
    match action:
        case planning.Start(count=count):
            for _ in range(count):
                fresh = Replica(deployment=row, version=row.version, ordinal=len(engines))
                fresh.created_at = fresh.started_at = moment(now)
                engines.append(Engine(fresh))
        case planning.Serve(replica=replica):
            replica.ready_at = moment(now)
        case planning.End(replica=replica):
            replica.remove_asked_at = moment(now)
        case planning.Remove(replica=replica):
            by_row[id(replica)].exited = True
        case planning.Move(to=to):
            _move(row, to, now)
        case planning.Remember(surplus=Surplus(since=since, peak=peak)):
            row.surplus_since, row.surplus_peak = since, peak
            return False
        case planning.Remember():
            row.surplus_since, row.surplus_peak = None, 0
            return False
        case planning.Close():
            return False
        case _:
            raise AssertionError(f"nothing of this kind was to be done: {action}")
    return True


def _move(row: Deployment, to: Status, now: float) -> None:
    row.status, row.status_since = to, moment(now)


def _buried(row: Deployment, engines: list[Engine], now: float) -> int:
    """Those that have ended get their row, and their bill."""
    gone = [engine for engine in engines if engine.exited]
    for engine in gone:
        engines.remove(engine)
        made = Replica.objects.create(
            deployment=row, version=row.version, created_at=engine.row.created_at, ready_at=engine.row.ready_at
        )
        ended = Observation(Seen.EXITED, started_at=engine.row.started_at, exited_at=moment(now), asked=True)
        uptime.close(made, ended, crashed=False, detail="")
    return len(gone)
