"""Starts: what the current one is doing and has done, and how long those before it took."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from statistics import median

from django.db.models import Q
from django.utils.safestring import SafeString

from deployments import charts, logs, phases
from deployments.lifecycle import Status
from deployments.models import Deployment, DeploymentEvent, Replica
from deployments.status import Report

BEGINNINGS = frozenset({Status.PENDING, Status.WAKING, Status.STARTING, Status.UPDATING})
HISTORY = 30
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


def history(row: Deployment) -> History:
    """Of this deployment; while it has none, of the same weights or, if there are none either, the same hardware."""
    started = Replica.objects.filter(ready_at__isnull=False, started_at__isnull=False)
    for where in (Q(deployment=row), Q(deployment__weights=row.weights_id, deployment__hardware=row.hardware_id)):
        latest = started.filter(where).order_by("-created_at").values_list("created_at", "started_at", "ready_at")
        took = list(latest[:HISTORY])
        if took:
            break
    spans = [(created, begun, ready) for created, begun, ready in reversed(took) if begun and ready]
    return History(
        seconds=[(ready - created).total_seconds() for created, _, ready in spans],
        failed=row.replicas.filter(crashed=True, ready_at=None).count(),
        process_s=_middle([(begun - created).total_seconds() for created, begun, _ in spans]),
        engine_s=_middle([(ready - begun).total_seconds() for _, begun, ready in spans]),
    )


def current(report: Report, events: Sequence[DeploymentEvent], past: History) -> Start | None:
    """The one that is going on, or the last that came to Ready; `events` newest first. None if it never started."""
    begun = _beginning(events)
    if begun is None:
        return None
    replica = _replica(report, begun.at)
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


def _replica(report: Report, since: datetime) -> Replica | None:
    """The first of this start that takes calls, else the one that is nearest to it."""
    tried = report.row.replicas.filter(created_at__gte=since).order_by("created_at")
    mine = [one for one in tried.select_related("version")[:20] if not one.crashed or one.ready_at]
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
