"""How many replicas: a table. And what is to be done about a view: pure, without a database."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from deployments.backends import Observation, Seen
from deployments.lifecycle import Reason, Status
from deployments.models import Deployment, Replica
from deployments.planning import HEARD_AFTER, End, Move, Remove, Start, View, is_in_motion, plan
from deployments.scaling import DRAIN_FOR, STABLE_FOR, Limits, Load, Surplus, Wish, pause_after, wish

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
LIMITS = Limits(least=0, most=5, per_replica=4, idle_window_s=600)
BUSY, IDLE = NOW, NOW - timedelta(seconds=600)
FRESH, STALE = NOW - timedelta(seconds=10), NOW - STABLE_FOR

TABLE: list[tuple[str, Load, Limits, int, Surplus | None, datetime, Wish]] = [
    ("nothing is asked of it: one stays until the idle window is over", Load(), LIMITS, 1, None, BUSY, Wish(1)),
    ("the idle window is over", Load(), LIMITS, 1, None, IDLE, Wish(0)),
    ("the idle window is over: all go at once", Load(), LIMITS, 4, None, IDLE, Wish(0)),
    ("a call in flight keeps it awake", Load(in_flight=1), LIMITS, 1, None, IDLE, Wish(1)),
    ("a call that waits keeps it awake", Load(waiting=1), LIMITS, 1, None, IDLE, Wish(1)),
    ("always awake: never to zero", Load(), replace(LIMITS, least=1), 1, None, IDLE, Wish(1)),
    ("as many as it is for", Load(in_flight=4), LIMITS, 1, None, BUSY, Wish(1)),
    ("one call more", Load(in_flight=5), LIMITS, 1, None, BUSY, Wish(2)),
    ("those that wait count", Load(in_flight=4, waiting=9), LIMITS, 1, None, BUSY, Wish(4)),
    ("never more than the most", Load(waiting=200), LIMITS, 1, None, BUSY, Wish(5)),
    ("never fewer than the least", Load(in_flight=1), replace(LIMITS, least=3), 1, None, BUSY, Wish(3)),
    ("fewer are enough: first it is noted", Load(in_flight=1), LIMITS, 3, None, BUSY, Wish(3, Surplus(NOW, 1))),
    ("not yet for long", Load(), LIMITS, 3, Surplus(FRESH, 1), BUSY, Wish(3, Surplus(FRESH, 1))),
    ("the most since then is kept", Load(in_flight=8), LIMITS, 3, Surplus(FRESH, 1), BUSY, Wish(3, Surplus(FRESH, 2))),
    ("long enough: down to the most since then", Load(), LIMITS, 4, Surplus(STALE, 2), BUSY, Wish(2)),
    ("all are needed again: it is forgotten", Load(in_flight=12), LIMITS, 3, Surplus(STALE, 1), BUSY, Wish(3)),
    ("the most was lowered: at once", Load(in_flight=20), replace(LIMITS, most=2), 5, None, BUSY, Wish(2)),
]


@pytest.mark.parametrize(("fact", "load", "limits", "awake", "surplus", "last_busy_at", "wished"), TABLE)
def test_the_wish_is_as_in_the_table(
    fact: str, load: Load, limits: Limits, awake: int, surplus: Surplus | None, last_busy_at: datetime, wished: Wish
) -> None:
    found = wish(load, limits, awake=awake, surplus=surplus, last_busy_at=last_busy_at, now=NOW)
    assert found == wished, fact


def test_pauses_after_crashes_double_up_to_five_minutes() -> None:
    assert [pause_after(n).total_seconds() for n in (0, 1, 2, 3, 4, 9, 40)] == [0, 1, 2, 4, 8, 256, 300]


def view(*ages: Replica, status: Status = Status.READY, **facts: object) -> View:
    row = Deployment(status=status, min_replicas=0, max_replicas=5, status_since=NOW, last_call_at=NOW)
    seen = {one.name: Observation(Seen.READY) for one in ages}
    return replace(View(row, ages, seen, NOW, listed=frozenset(seen)), **facts)  # type: ignore[arg-type]


def ready(ordinal: int = 0, **facts: object) -> Replica:
    return Replica(ordinal=ordinal, ready_at=NOW, started_at=NOW, **facts)


def test_all_as_it_should_be_is_an_empty_plan() -> None:
    assert plan(view(ready())) == []
    assert not is_in_motion(view(ready()))


def test_a_replica_that_has_to_go_waits_for_its_calls_and_for_the_gateways_to_hear_of_it() -> None:
    stays, goes = ready(0), ready(1, remove_asked_at=NOW - timedelta(seconds=1))
    name = goes.name
    assert plan(view(stays, goes, calls={name: 1})) == []
    assert plan(view(stays, goes, routed=frozenset({name}))) == []
    assert plan(view(stays, goes)) == [Remove(goes)]
    goes.remove_asked_at = NOW - HEARD_AFTER - timedelta(seconds=1)
    assert plan(view(stays, goes, routed=frozenset({name}))) == [Remove(goes)], "a deaf gateway is no veto"
    assert plan(view(stays, goes, calls={name: 1})) == []
    goes.remove_asked_at = NOW - DRAIN_FOR - timedelta(seconds=1)
    assert plan(view(stays, goes, calls={name: 1})) == [Remove(goes)], "calls have a bound"


def test_one_that_hangs_or_never_got_ready_is_not_waited_for() -> None:
    hung = ready(0, remove_asked_at=NOW, crashed=True)
    assert Remove(hung) in plan(view(ready(1), hung, calls={hung.name: 3}))


def test_scaling_down_takes_those_that_start_first_and_then_the_least_busy() -> None:
    busy, idle, starting = ready(0), ready(1), Replica(ordinal=2, created_at=NOW)
    facts = view(busy, idle, starting, calls={busy.name: 3, idle.name: 1})
    facts = replace(facts, seen=facts.seen | {starting.name: Observation(Seen.STARTING)})
    facts.row.surplus_since, facts.row.surplus_peak = NOW - STABLE_FOR, 2
    assert [one.replica for one in plan(facts) if isinstance(one, End)] == [starting]
    facts.row.surplus_peak = 1
    assert [one.replica for one in plan(facts) if isinstance(one, End)] == [starting, idle]


def test_more_load_starts_more_but_not_without_room() -> None:
    crowded = view(one := ready(), calls={one.name: 9})
    assert plan(crowded) == [Start(2)]
    assert plan(replace(crowded, room=0)) == []


def test_a_wish_to_stop_comes_before_all_else() -> None:
    facts = view(ready())
    facts.row.stop_asked_at = NOW
    assert plan(facts) == [Move(Status.STOPPING, Reason.STOP_ASKED)]


@pytest.mark.parametrize("status", [s for s in Status if s not in {Status.READY, Status.ASLEEP, Status.FAILED}])
def test_every_state_that_something_has_to_come_out_of_has_a_deadline(status: Status) -> None:
    deadline = Deployment(start_deadline_s=5).deadline_from(NOW, status=status, reason="")
    assert (deadline is not None) == (status != Status.STOPPED)
