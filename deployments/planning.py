"""What is to be done about a deployment, as it was seen at one moment. Pure: a view in, actions out, in their order.

An empty plan means that all is as it should be. The sweep plans for all in memory and touches only those that differ.
"""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from deployments import causes, scaling
from deployments.backends import Observation, Seen
from deployments.causes import Cause
from deployments.lifecycle import IN_MOTION, SPENDING, Reason, Status
from deployments.models import Deployment, Replica
from deployments.scaling import DRAIN_FOR, Limits, Load, Surplus

CRASHES_ALLOWED = 3
CRASH_WINDOW = timedelta(minutes=5)
HUNG_AFTER = timedelta(seconds=30)
# How long calls may go on at a replica of a deployment that is being stopped.
STOP_DRAIN_FOR = timedelta(seconds=10)
# How long a gateway may take to hear that a replica gets no more calls.
HEARD_AFTER, STOP_HEARD_AFTER = timedelta(seconds=10), timedelta(seconds=1)
UNSEEN = Observation(Seen.ABSENT)


@dataclass(frozen=True, slots=True)
class View:
    """A deployment with its live replicas. `calls` and `waiting` are those of all gateways; `routed` holds the names
    of replicas that some gateway still sends calls to; `listed` the names that the backend lists, None if it was not
    asked. `causes` says for replicas that have exited why, `crashes` how many there were lately before them. `room`:
    so many more replicas its hardware has room for, when it is its turn; None if that is not known. `may_spend`: no
    hard budget forbids that it goes on."""

    row: Deployment
    replicas: tuple[Replica, ...]
    seen: Mapping[str, Observation]
    now: datetime
    calls: Mapping[str, int] = field(default_factory=dict)
    waiting: int = 0
    routed: frozenset[str] = frozenset()
    listed: frozenset[str] | None = None
    causes: Mapping[str, Cause] = field(default_factory=dict)
    crashes: int = 0
    room: int | None = None
    may_spend: bool = True

    def of(self, replica: Replica) -> Observation:
        return self.seen.get(replica.name, UNSEEN)


@dataclass(frozen=True, slots=True)
class Close:
    """It has ended: bill it to its exit."""

    replica: Replica
    crashed: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Ensure:
    replica: Replica


@dataclass(frozen=True, slots=True)
class Start:
    """`count` new replicas of what takes the calls, or of the version that is tried. If there is no room for any,
    `instead` may end."""

    count: int
    trial: bool = False
    instead: Replica | None = None


@dataclass(frozen=True, slots=True)
class Serve:
    """It is healthy: calls may be sent to it."""

    replica: Replica


@dataclass(frozen=True, slots=True)
class Try:
    """It is healthy, and of a version that has to answer a real prompt before it takes the calls."""

    replica: Replica


@dataclass(frozen=True, slots=True)
class End:
    """It has to go: no call is sent to it any more."""

    replica: Replica
    crashed: bool = False


@dataclass(frozen=True, slots=True)
class Remove:
    """Nothing is in flight there any more, or for too long: tell the backend to end it."""

    replica: Replica


@dataclass(frozen=True, slots=True)
class Unhealthy:
    replica: Replica
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is started before."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Remember:
    surplus: Surplus | None


@dataclass(frozen=True, slots=True)
class Begin:
    """Check what is to be run; then start the first replica."""


@dataclass(frozen=True, slots=True)
class GiveUpUpdate:
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Move:
    """To another state; `evidence_of`: the last lines of this replica's log are the detail."""

    to: Status
    reason: Reason
    detail: str = ""
    evidence_of: Replica | None = None


@dataclass(frozen=True, slots=True)
class Restate:
    reason: Reason
    detail: str = ""


Action = (
    Close | Ensure | Start | Serve | Try | End | Remove | Unhealthy | Wait | Remember | Begin | GiveUpUpdate | Move
    | Restate
)  # fmt: skip


def plan(view: View) -> list[Action]:
    row = view.row
    if row.stop_asked_at and row.status not in {Status.STOPPING, Status.STOPPED}:
        return [Move(Status.STOPPING, Reason.STOP_ASKED)]
    actions = list(_ended(view))
    if not view.may_spend and row.status in SPENDING:
        return actions + list(_spent(view))
    match row.status:
        case Status.PENDING:
            actions += _pending(view)
        case Status.DOWNLOADING:
            actions += _downloading(view)
        case Status.STARTING | Status.WAKING:
            actions += _starting(view)
        case Status.READY:
            actions += _ready(view)
        case Status.UPDATING:
            actions += _updating(view)
        case Status.STOPPING:
            actions += _stopping(view)
        case Status.ASLEEP if row.reason == Reason.BUDGET_SPENT and row.min_replicas and view.may_spend:
            actions += [Move(Status.WAKING, Reason.BUDGET_AGAIN)]
        case _:
            actions += [End(replica) for replica in view.replicas if replica.remove_asked_at is None]
    return actions


def is_in_motion(view: View) -> bool:
    """Something is still to come soon: a state to leave, a wish to stop, an engine that starts or has to go."""
    row = view.row
    if row.status == Status.STOPPED:
        return False
    if row.status == Status.DOWNLOADING and not row.stop_asked_at:
        return False  # for hours, perhaps: the sweep sees when they are here
    waits = row.queued_at is not None or _pausing(view) or _is_validating(row)
    if row.stop_asked_at or (row.status in IN_MOTION and not waits):
        return True
    return any(_is_moving(view, replica) for replica in view.replicas if not _is_asked(view, replica))


def is_overdue(view: View) -> bool:
    row = view.row
    deadline_at = row.deadline_at or row.deadline_from(row.status_since, status=row.status, reason=row.reason)
    return deadline_at is not None and view.now > deadline_at


def _is_validating(row: Deployment) -> bool:
    """Minutes may pass, and who validates rings at their end: nobody has to follow it."""
    return row.status == Status.UPDATING and row.reason == Reason.VALIDATING


def _is_asked(view: View, replica: Replica) -> bool:
    return _is_validating(view.row) and replica.version_id == view.row.next_version_id and not replica.remove_asked_at


def _pausing(view: View) -> bool:
    """After a crash, for longer than it is worth to watch."""
    return view.row.next_try_at is not None and view.row.next_try_at > view.now + timedelta(seconds=5)


def _is_moving(view: View, replica: Replica) -> bool:
    if replica.remove_asked_at:
        return _may_go(view, replica) or view.now < replica.remove_asked_at + timedelta(seconds=3)
    return replica.ready_at is None


def _ended(view: View) -> Iterator[Action]:
    """What holds in every state: who has to go goes, and what the backend lists no more is closed."""
    for replica in view.replicas:
        if replica.remove_asked_at is None:
            continue
        if _is_gone(view, replica):
            yield Close(replica, replica.crashed, replica.exit_detail)
        elif _may_go(view, replica):
            yield Remove(replica)


def _is_gone(view: View, replica: Replica) -> bool:
    return not view.of(replica).alive and view.listed is not None and replica.name not in view.listed


def _may_go(view: View, replica: Replica) -> bool:
    """Drained: no gateway sends calls there, none is in flight there; or that has lasted long enough."""
    asked_at = replica.remove_asked_at
    if asked_at is None or replica.crashed or replica.ready_at is None:
        return True
    stopping = view.row.status == Status.STOPPING
    if view.calls.get(replica.name, 0):
        return view.now > asked_at + (STOP_DRAIN_FOR if stopping else DRAIN_FOR)
    return replica.name not in view.routed or view.now > asked_at + (STOP_HEARD_AFTER if stopping else HEARD_AFTER)


def _staying(view: View) -> list[Replica]:
    """Neither asked to go nor ended."""
    return [one for one in view.replicas if one.remove_asked_at is None and view.of(one).seen != Seen.EXITED]


def _spent(view: View) -> Iterator[Action]:
    """A hard budget is used up: nothing is started, and what runs goes to sleep once its calls are done."""
    match view.row.status:
        case Status.PENDING | Status.STARTING:
            yield Move(Status.FAILED, Reason.BUDGET_SPENT)
        case Status.UPDATING:
            yield GiveUpUpdate(Reason.BUDGET_SPENT, "")
            return
        case _:
            yield Move(Status.ASLEEP, Reason.BUDGET_SPENT)
    yield from (End(replica) for replica in _staying(view))


def _pending(view: View) -> Iterator[Action]:
    if is_overdue(view):
        queued = view.row.queued_at is not None
        yield Move(Status.FAILED, Reason.NO_CAPACITY if queued else Reason.NO_WORKER)
    elif view.room != 0:
        yield Begin()


def _downloading(view: View) -> Iterator[Action]:
    """The weights are brought by others; here they are waited for."""
    weights = view.row.weights
    if not weights.is_in_motion and not weights.is_ready:
        cause = causes.of_weights(weights)
        yield Move(Status.FAILED, cause.reason, cause.evidence)
    elif is_overdue(view):
        yield Move(Status.FAILED, Reason.NO_CAPACITY if view.row.queued_at else Reason.HUB_AWAY)
    elif weights.is_ready and view.room != 0:
        yield Begin()


def _starting(view: View) -> Iterator[Action]:
    row = view.row
    failure = yield from _closed(view)
    if failure is not None:
        yield failure
        yield from (End(replica) for replica in _staying(view))
        return
    yield from (End(replica) for replica in _staying(view) if replica.version_id != row.version_id)
    mine = [replica for replica in _staying(view) if replica.version_id == row.version_id]
    yield from _growing(view, mine)
    if any(_serves(view, replica) for replica in mine):
        yield Move(Status.READY, Reason.ENGINE_HEALTHY)
    elif is_overdue(view):
        yield from _too_late(view, mine)
    elif view.crashes >= CRASHES_ALLOWED and not mine:
        yield Move(Status.FAILED, Reason.CRASH_LOOP, row.detail)
    elif len(mine) < max(1, row.min_replicas) and view.room != 0 and not _must_wait(view):
        yield Start(max(1, row.min_replicas) - len(mine))


def _serves(view: View, replica: Replica) -> bool:
    return replica.ready_at is not None or view.of(replica).seen == Seen.READY


def _must_wait(view: View) -> bool:
    """After a crash: also after one that is only being seen."""
    exits = (view.of(replica) for replica in view.replicas if replica.remove_asked_at is None)
    if any(seen.seen == Seen.EXITED and not seen.asked for seen in exits):
        return True
    return view.row.next_try_at is not None and view.now < view.row.next_try_at


def _too_late(view: View, mine: list[Replica]) -> Iterator[Action]:
    row = view.row
    if row.queued_at is not None and not mine:
        yield Move(Status.ASLEEP if row.status == Status.WAKING else Status.FAILED, Reason.NO_CAPACITY)
    else:
        yield Move(Status.FAILED, Reason.START_TIMEOUT, evidence_of=next(iter(mine), None))
    yield from (End(replica) for replica in mine)


def _growing(view: View, mine: list[Replica]) -> Iterator[Action]:
    """Those that are not ready yet, on their way."""
    for replica in mine:
        seen = view.of(replica).seen
        if replica.ready_at is None and seen == Seen.READY:
            yield Serve(replica)
        elif seen == Seen.ABSENT:
            yield Ensure(replica)


def _closed(view: View) -> Generator[Action, None, Move | None]:
    """Close those that ended by themselves. Gives the move to FAILED, if it is no use to start others."""
    crashes, failure = view.crashes, None
    for replica in view.replicas:
        seen = view.of(replica)
        if replica.remove_asked_at or seen.seen != Seen.EXITED:
            continue
        cause = view.causes.get(replica.name, Cause(Reason.NONE, ""))
        yield Close(replica, crashed=not seen.asked, detail=cause.evidence)
        if seen.asked:
            continue
        crashes += 1
        if cause.is_final or crashes >= CRASHES_ALLOWED:
            failure = Move(Status.FAILED, cause.reason or Reason.CRASH_LOOP, cause.evidence)
        yield Wait(view.now + scaling.pause_after(crashes))
    return failure


def _ready(view: View) -> Iterator[Action]:
    row = view.row
    failure = yield from _closed(view)
    yield from _hung_or_late(view)
    ill = {action.replica.pk for action in _hung_or_late(view) if isinstance(action, End)}
    staying = [replica for replica in _staying(view) if replica.pk not in ill]
    if not any(replica.ready_at for replica in staying):
        yield failure or _nothing_answers(view, ill)
        return
    mine = [replica for replica in staying if replica.version_id == row.version_id]
    old = [replica for replica in staying if replica.version_id != row.version_id]
    yield from _growing(view, mine)
    yield from _scaled(view, mine, old)


def _nothing_answers(view: View, ill: set[UUID]) -> Move:
    """No replica is left that answers: another is started."""
    for replica in view.replicas:
        if replica.pk in ill:
            return Move(Status.STARTING, Reason.ENGINE_HUNG, evidence_of=replica)
    exits = [(replica, view.of(replica)) for replica in view.replicas if view.of(replica).seen == Seen.EXITED]
    if exits and all(seen.asked for _, seen in exits):
        return Move(Status.STARTING, Reason.PORTAL_RESTARTED)
    detail = next((view.causes[one.name].evidence for one, _ in exits if one.name in view.causes), "")
    return Move(Status.STARTING, Reason.ENGINE_EXITED, detail)


def _hung_or_late(view: View) -> Iterator[Action]:
    """Alive, and without a healthy answer for so long that it will not come by itself."""
    for replica in _staying(view):
        seen = view.of(replica).seen
        if replica.ready_at is None:
            if view.now > replica.created_at + timedelta(seconds=view.row.start_deadline_s):
                yield End(replica, crashed=True)
                yield Wait(view.now + scaling.pause_after(view.crashes + 1))
        elif seen == Seen.READY:
            if replica.unhealthy_since:
                yield Unhealthy(replica, None)
        elif replica.unhealthy_since is None:
            yield Unhealthy(replica, view.now)
        elif view.now - replica.unhealthy_since > HUNG_AFTER:
            yield End(replica, crashed=True)


def _scaled(view: View, mine: list[Replica], old: list[Replica]) -> Iterator[Action]:
    """As many of the version that takes the calls as the load asks for; those of another go once these can do it."""
    row = view.row
    answering = [replica for replica in mine if _serves(view, replica)]
    surplus = Surplus(row.surplus_since, row.surplus_peak) if row.surplus_since else None
    wish = scaling.wish(
        load_of(view),
        Limits(row.min_replicas, row.max_replicas, row.target_concurrency, row.idle_window_s),
        awake=max(len(mine), len(old)),
        surplus=surplus,
        last_busy_at=max(filter(None, [row.last_call_at, row.status_since])),
        now=view.now,
    )
    if wish.replicas == 0:
        yield Move(Status.ASLEEP, Reason.IDLE)
        yield from (End(replica) for replica in [*mine, *old])
        return
    if wish.surplus != surplus:
        yield Remember(wish.surplus)
    instead = old[0] if old and answering else None
    if len(mine) < wish.replicas and not _must_wait(view) and (view.room != 0 or instead):
        yield Start(wish.replicas - len(mine), instead=instead)
    if len(answering) >= wish.replicas:
        yield from (End(replica) for replica in old)
    if len(mine) > wish.replicas:
        # Those that are not ready yet first, then the ones with the fewest calls; the oldest places stay.
        chosen = sorted(mine, key=lambda one: (bool(one.ready_at), view.calls.get(one.name, 0), -one.ordinal))
        yield from (End(replica) for replica in chosen[: len(mine) - wish.replicas])


def load_of(view: View) -> Load:
    return Load(sum(view.calls.get(replica.name, 0) for replica in view.replicas), view.waiting)


def _updating(view: View) -> Iterator[Action]:
    row = view.row
    trial = [replica for replica in view.replicas if replica.version_id == row.next_version_id]
    for replica in trial:
        if view.of(replica).seen == Seen.EXITED and not replica.remove_asked_at:
            cause = view.causes.get(replica.name, Cause(Reason.NONE, ""))
            yield Close(replica, crashed=not view.of(replica).asked, detail=cause.evidence)
            yield GiveUpUpdate(cause.reason, cause.evidence)
            return
    others = replace(view, replicas=tuple(one for one in view.replicas if one.version_id != row.next_version_id))
    yield from _closed(others)
    yield from _hung_or_late(others)
    yield from _growing(others, _staying(others))
    mine = [replica for replica in trial if replica.remove_asked_at is None]
    if is_overdue(view):
        late = Reason.VALIDATION_FAILED if row.reason == Reason.VALIDATING else Reason.START_TIMEOUT
        yield GiveUpUpdate(late, "")
    elif not mine:
        yield Start(1, trial=True)
    elif view.of(mine[0]).seen == Seen.READY:
        yield Try(mine[0])
    elif view.of(mine[0]).seen == Seen.ABSENT:
        yield Ensure(mine[0])


def _stopping(view: View) -> Iterator[Action]:
    left = [replica for replica in view.replicas if not (replica.remove_asked_at and _is_gone(view, replica))]
    yield from (End(replica) for replica in left if replica.remove_asked_at is None)
    if not left:
        yield Move(Status.STOPPED, Reason.GONE)
    elif is_overdue(view) and view.row.reason != Reason.STOP_TIMEOUT:
        yield Restate(Reason.STOP_TIMEOUT, f"The backend still lists {', '.join(one.name for one in left)}.")
