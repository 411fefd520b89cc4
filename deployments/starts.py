"""Starts: what the current one is doing and has done, and how long those before it took."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from statistics import median

from django.db.models import Exists, Q, QuerySet, Value
from django.utils.safestring import SafeString

from deployments import charts, logs, phases
from deployments.lifecycle import Status
from deployments.models import Deployment, DeploymentEvent, Replica
from deployments.status import Report

BEGINNINGS = frozenset({Status.PENDING, Status.WAKING, Status.STARTING, Status.UPDATING})
HISTORY, TRIED = 30, 20
HEAD_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a start. `began_at` is set while it lasts, `seconds` once it is over; neither: it is to come."""

    label: str
    seconds: float | None = None
    began_at: datetime | None = None
    expected_s: float | None = None

    @property
    def is_now(self) -> bool:
        return self.began_at is not None


@dataclass(frozen=True, slots=True)
class Start:
    """From the wish, or the call that woke it, to the first replica that takes calls."""

    began_at: datetime
    phases: Sequence[Phase]
    seconds: float | None
    expected_s: float | None

    @property
    def now(self) -> Phase | None:
        return next((phase for phase in self.phases if phase.is_now), None)


@dataclass(frozen=True, slots=True)
class History:
    """The last cold starts, oldest first: seconds from a replica being asked for to its taking calls."""

    seconds: Sequence[float]
    failed: int
    process_s: float | None
    engine_s: float | None

    @property
    def p50(self) -> float | None:
        return _part(self.seconds, 0.5)

    @property
    def p90(self) -> float | None:
        return _part(self.seconds, 0.9)

    @property
    def chart(self) -> SafeString:
        return charts.bars(self.seconds, label=f"The last {len(self.seconds)} cold starts, oldest first")


def known(report: Report, events: Sequence[DeploymentEvent]) -> tuple[History, Start | None]:
    """The starts of this deployment, or, while it has none, those of the same weights on the same hardware; and the one
    that is going on, or the last that came to Ready, None if it never started. `events` newest first. One query."""
    begun = _beginning(events)
    past: list[Replica] = []
    tried: list[Replica] = []
    for replica in _replicas(report.row, since=begun.at if begun else None):
        (tried if replica.is_of_this_start else past).append(replica)  # type: ignore[attr-defined]
    history = _history(past, failed=report.row.failed_starts or 0)  # type: ignore[attr-defined]
    return history, _current(report, begun, events, history, tried) if begun else None


def _replicas(row: Deployment, *, since: datetime | None) -> Iterable[Replica]:
    """The last that came to Ready, of this deployment or else of its like, and the first that were tried since then."""
    ready = Replica.objects.filter(ready_at__isnull=False, started_at__isnull=False)
    own, like = Q(deployment=row), Q(deployment__weights=row.weights_id, deployment__hardware=row.hardware_id)
    parts = [ready.filter(own), ready.filter(like, ~Exists(ready.filter(own)))]
    asked = [_marked(part.order_by("-created_at")[:HISTORY], is_of_this_start=False) for part in parts]
    if since is not None:
        tried = row.replicas.filter(created_at__gte=since).order_by("created_at")
        asked.append(_marked(tried[:TRIED], is_of_this_start=True))
    first, *others = asked
    return first.union(*others, all=True)


def _marked(rows: "QuerySet[Replica]", *, is_of_this_start: bool) -> "QuerySet[Replica]":
    return rows.select_related("version").annotate(is_of_this_start=Value(is_of_this_start))


def _history(latest: list[Replica], *, failed: int) -> History:
    spans = [
        (one.created_at, one.started_at, one.ready_at)
        for one in sorted(latest, key=lambda one: one.created_at)
        if one.started_at and one.ready_at
    ]
    return History(
        seconds=[(ready - created).total_seconds() for created, _, ready in spans],
        failed=failed,
        process_s=_middle([(begun - created).total_seconds() for created, begun, _ in spans]),
        engine_s=_middle([(ready - begun).total_seconds() for _, begun, ready in spans]),
    )


def _current(
    report: Report,
    begun: DeploymentEvent,
    events: Sequence[DeploymentEvent],
    past: History,
    tried: list[Replica],
) -> Start | None:
    replica = _nearest(tried)
    done_at = replica.ready_at if replica else None
    if done_at is None and not (report.is_coming or report.is_updating):
        return None
    seconds = (done_at - begun.at).total_seconds() if done_at else None
    waiting = "Waiting for capacity" if report.queue_position else "Waiting for a worker"
    parts = _before_an_engine(waiting, begun, events, replica)
    if replica is None:
        parts += [
            Phase("The engine's process starts", expected_s=past.process_s),
            Phase("The engine loads the weights", expected_s=past.engine_s),
        ]
    else:
        started_at = replica.started_at
        parts.append(_phase("The engine's process starts", replica.created_at, started_at, past.process_s))
        parts += _engine_phases(report.row, replica, past) if started_at else [
            Phase("The engine loads the weights", expected_s=past.engine_s)
        ]  # fmt: skip
    parts.append(Phase("Ready", seconds=0.0) if done_at else Phase("Ready"))
    return Start(begun.at, parts, seconds, past.p50)


def _beginning(events: Sequence[DeploymentEvent]) -> DeploymentEvent | None:
    """The event that the newest start began with."""
    found = None
    for event in events:
        if event.after in BEGINNINGS:
            found = event
            if event.after == Status.PENDING or event.before not in BEGINNINGS:
                break
        elif found is not None:
            break
    return found


def _nearest(tried: list[Replica]) -> Replica | None:
    """The first of this start that takes calls, else the one that is nearest to it."""
    oldest_first = sorted(tried, key=lambda one: one.created_at)
    mine = [one for one in oldest_first if not one.crashed or one.ready_at]
    ready = [one for one in mine if one.ready_at]
    return next(iter(ready or [one for one in mine if one.exited_at is None]), None)


def _before_an_engine(
    waiting: str, begun: DeploymentEvent, events: Sequence[DeploymentEvent], replica: Replica | None
) -> list[Phase]:
    """Waiting, and fetching the weights, if they had to be."""
    until = replica.created_at if replica else None
    fetching = [event for event in events if event.at >= begun.at and event.after == Status.DOWNLOADING]
    if not fetching:
        return [_phase(waiting, begun.at, until)]
    fetched = [event.at for event in events if event.at >= begun.at and event.before == Status.DOWNLOADING]
    ended_at = min(fetched, default=until)
    return [_phase(waiting, begun.at, fetching[-1].at), _phase("Fetching the weights", fetching[-1].at, ended_at)]


def _phase(label: str, begins: datetime, ends: datetime | None, expected_s: float | None = None) -> Phase:
    if ends is None:
        return Phase(label, began_at=begins, expected_s=expected_s)
    return Phase(label, seconds=max(0.0, (ends - begins).total_seconds()), expected_s=expected_s)


def _engine_phases(row: Deployment, replica: Replica, past: History) -> list[Phase]:
    """What the engine itself says. Its own clock begins a little after its process, so lengths are taken from it, and
    what is before its first line is the rest."""
    assert replica.started_at is not None  # noqa: S101 - asked for by the caller
    engine = replica.version.engine if replica.version else row.engine
    said = phases.said(engine, logs.head(row, replica, size=HEAD_BYTES))
    if replica.ready_at is None:
        label = said[-1].label if said else "The engine is starting"
        return [Phase(label, began_at=replica.started_at, expected_s=past.engine_s)]
    whole_s = (replica.ready_at - replica.started_at).total_seconds()
    offsets = [one.offset_s for one in said if one.offset_s is not None]
    if len(offsets) < 2 or len(offsets) != len(said) or offsets[-1] - offsets[0] > whole_s:
        return [Phase("The engine loads the weights", seconds=whole_s, expected_s=past.engine_s)]
    lengths = [after - before for before, after in pairwise(offsets)]
    before_s = whole_s - sum(lengths)
    named = [Phase(one.label, seconds=length) for one, length in zip(said, lengths, strict=False)]
    return [Phase("The engine's program loads", seconds=before_s), *named]


def _middle(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def _part(values: Sequence[float], part: float) -> float | None:
    """The nearest-rank percentile."""
    ranked = sorted(values)
    return ranked[max(0, -(-int(part * 100) * len(ranked) // 100) - 1)] if ranked else None
