"""One step, observed -> wished. Safe to run twice and at once: a state moves by compare-and-set, an engine is named
by its replica, and a replica is closed once. A lost message costs one tick of `sweep`.
"""

import contextlib
import logging
import secrets
import time
from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import Max
from django.utils import timezone

from accounts import sealing
from deployments import engines, uptime, verifying
from deployments.backends import Backend, Observation, Seen, backends
from deployments.errors import BackendError, IllegalTransition
from deployments.launch import LaunchSpec
from deployments.lifecycle import IN_MOTION, Reason, Status
from deployments.models import Deployment, Replica

log = logging.getLogger(__name__)

CRASHES_ALLOWED = 3
CRASH_WINDOW = timedelta(minutes=5)
HUNG_AFTER = timedelta(seconds=30)
EVIDENCE_LINES = 12
STEP_PAUSE_S = 0.1
TRIES_TO_BE_ALONE = 10


def follow(deployment_id: UUID, *, seconds: float) -> bool:
    """Step until it is settled for now, or `seconds` are over. True if it is still in motion and nobody follows it.

    One follower at a time: the others leave it to the first, which reads every wish anew.
    """
    end = time.monotonic() + seconds
    for _ in range(TRIES_TO_BE_ALONE):
        with alone(deployment_id) as mine:
            while mine and (deployment := _unsettled(deployment_id)):
                step(deployment)
                if not _in_motion(deployment):
                    return False
                if time.monotonic() > end:
                    return True
                time.sleep(STEP_PAUSE_S)
            if mine:
                return False
        time.sleep(STEP_PAUSE_S)
    return False


def step(deployment: Deployment) -> None:
    """Look once and do the one next thing. Somebody else's newer truth is left alone."""
    try:
        if deployment.stop_asked_at and deployment.status not in {Status.STOPPING, Status.STOPPED}:
            deployment.transition(Status.STOPPING, since=deployment.status, reason=Reason.STOP_ASKED)
        match deployment.status:
            case Status.PENDING:
                _begin(deployment)
            case Status.STARTING | Status.WAKING:
                _await_ready(deployment)
            case Status.READY:
                _watch(deployment)
            case Status.STOPPING:
                _tear_down(deployment)
            case Status.ASLEEP | Status.FAILED:
                _remove_live(deployment)
    except IllegalTransition:
        deployment.refresh_from_db()


def sweep() -> list[UUID]:
    """The truth with no message: every unsettled deployment gets a step, every engine without a row is removed.

    Returns those still in motion that nobody follows: each deserves a follower.
    """
    unfollowed = []
    for deployment_id in Deployment.objects.unsettled().values_list("pk", flat=True):
        try:
            with alone(deployment_id) as mine:
                if mine and (deployment := _unsettled(deployment_id)):
                    step(deployment)
                    unfollowed += [deployment_id] if _in_motion(deployment) else []
        except Exception:  # one broken deployment must not keep the others waiting
            log.exception("sweep: %s", deployment_id)
    for alias in settings.DEPLOYMENT_BACKENDS:
        _remove_orphans(alias)
    return unfollowed


@contextlib.contextmanager
def alone(deployment_id: UUID) -> Iterator[bool]:
    """True if nobody else works on this deployment now. Postgres forgets the claim when the worker dies."""
    number = int.from_bytes(deployment_id.bytes[:8], "big", signed=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [number])
        mine = bool(cursor.fetchone()[0])
    try:
        yield mine
    finally:
        if mine:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [number])


def _unsettled(deployment_id: UUID) -> Deployment | None:
    rows = Deployment.objects.unsettled().select_related("team", "model", "hardware", "weights")
    return rows.filter(pk=deployment_id).first()


def _in_motion(deployment: Deployment) -> bool:
    """Something is still to come soon: a state to leave, a wish to stop, an engine that has to go."""
    if deployment.status == Status.STOPPED:
        return False
    if deployment.status in IN_MOTION or deployment.stop_asked_at:
        return True
    return deployment.status in {Status.ASLEEP, Status.FAILED} and _live(deployment) is not None


def _remove_orphans(alias: str) -> None:
    """A replica's row is written before its engine, so an engine without a live row belongs to nobody."""
    running = set(backends[alias].running())
    rows = Replica.objects.filter(exited_at=None, deployment__backend=alias)
    for name in running - {replica.name for replica in rows.only("id")}:
        log.warning("sweep: removing the orphan engine %s", name)
        backends[alias].remove(name)


def _begin(deployment: Deployment) -> None:
    if problem := verifying.problem_with(deployment.weights):
        deployment.transition(Status.FAILED, since=deployment.status, reason=Reason.BAD_WEIGHTS, detail=problem)
        return
    _live_or_new(deployment)
    deployment.transition(Status.STARTING, since=deployment.status, reason=Reason.ENGINE_LOADING)
    _await_ready(deployment)


def _await_ready(deployment: Deployment) -> None:
    leaving = deployment.replicas.filter(exited_at=None, remove_asked_at__isnull=False).exists()
    if leaving and not _remove_live(deployment):
        return
    replica = _live_or_new(deployment)
    seen = _backend(deployment).observe(replica.name)
    uptime.note(replica, seen)
    if seen.seen == Seen.EXITED:
        _after_exit(deployment, replica, seen)
    elif seen.seen == Seen.READY:
        Replica.objects.filter(pk=replica.pk, ready_at=None).update(ready_at=timezone.now())
        deployment.transition(Status.READY, since=deployment.status, reason=Reason.ENGINE_HEALTHY)
    elif timezone.now() > deployment.status_since + timedelta(seconds=deployment.start_deadline_s):
        evidence = _evidence(deployment, replica)
        deployment.transition(Status.FAILED, since=deployment.status, reason=Reason.START_TIMEOUT, detail=evidence)
        _remove_live(deployment)
    elif seen.seen == Seen.ABSENT:
        _ensure(deployment, replica)


def _ensure(deployment: Deployment, replica: Replica) -> None:
    try:
        _backend(deployment).ensure(_spec(deployment, replica))
    except BackendError as error:
        deployment.transition(Status.FAILED, since=deployment.status, reason=Reason.BACKEND_REFUSED, detail=str(error))


def _watch(deployment: Deployment) -> None:
    replica = _live(deployment)
    if replica is None:  # the worker died between closing the replica and saying so
        deployment.transition(Status.STARTING, since=deployment.status, reason=Reason.ENGINE_EXITED)
        return
    seen = _backend(deployment).observe(replica.name)
    if not seen.alive:
        _after_exit(deployment, replica, seen)
        return
    uptime.note(replica, seen)
    if _hung(replica, seen):
        evidence = _evidence(deployment, replica)
        deployment.transition(Status.STARTING, since=deployment.status, reason=Reason.ENGINE_HUNG, detail=evidence)
        _remove_live(deployment, crashed=True)
    elif _idle(deployment, replica):
        deployment.transition(Status.ASLEEP, since=deployment.status, reason=Reason.IDLE)
        _remove_live(deployment)


def _tear_down(deployment: Deployment) -> None:
    if _remove_live(deployment):
        deployment.transition(Status.STOPPED, since=deployment.status, reason=Reason.GONE)


def _remove_live(deployment: Deployment, *, crashed: bool = False) -> bool:
    """True once the backend's own list lacks it and its last second is billed."""
    replica = _live(deployment)
    if replica is None:
        return True
    if replica.remove_asked_at is None:
        replica.remove_asked_at, replica.crashed = timezone.now(), crashed
        replica.save(update_fields=["remove_asked_at", "crashed"])
    backend = _backend(deployment)
    backend.remove(replica.name)
    seen = backend.observe(replica.name)
    if seen.alive or replica.name in backend.running():
        return False
    uptime.close(replica, seen, crashed=replica.crashed, detail="")
    return True


def _after_exit(deployment: Deployment, replica: Replica, seen: Observation) -> None:
    """The engine ended by itself: bill to its real exit, start another, or give up when it does so again and again."""
    evidence = _evidence(deployment, replica)
    uptime.close(replica, seen, crashed=not seen.asked, detail=evidence)
    if _crashes(deployment) >= CRASHES_ALLOWED:
        deployment.transition(Status.FAILED, since=deployment.status, reason=Reason.CRASH_LOOP, detail=evidence)
    elif deployment.status == Status.READY:
        reason = Reason.PORTAL_RESTARTED if seen.asked else Reason.ENGINE_EXITED
        deployment.transition(Status.STARTING, since=deployment.status, reason=reason, detail=evidence)


def _crashes(deployment: Deployment) -> int:
    """In the last minutes, and since somebody last asked for it: who starts it again gives it all its tries again."""
    recent = deployment.replicas.filter(crashed=True, exited_at__gte=timezone.now() - CRASH_WINDOW)
    asked_at = deployment.events.filter(after=Status.PENDING).aggregate(at=Max("at"))["at"]
    return (recent.filter(created_at__gte=asked_at) if asked_at else recent).count()


def _hung(replica: Replica, seen: Observation) -> bool:
    """Alive, and without a healthy answer for so long that it will not come back by itself."""
    since = None if seen.seen == Seen.READY else replica.unhealthy_since or timezone.now()
    if since != replica.unhealthy_since:
        replica.unhealthy_since = since
        replica.save(update_fields=["unhealthy_since"])
    return since is not None and timezone.now() - since > HUNG_AFTER


def _idle(deployment: Deployment, replica: Replica) -> bool:
    if deployment.min_replicas > 0:
        return False
    last = max(filter(None, [replica.ready_at, deployment.last_call_at, deployment.status_since]))
    return timezone.now() > last + timedelta(seconds=deployment.idle_window_s)


def _live(deployment: Deployment) -> Replica | None:
    return deployment.replicas.filter(exited_at=None).first()


def _live_or_new(deployment: Deployment) -> Replica:
    if replica := _live(deployment):
        return replica
    try:
        with transaction.atomic():
            return Replica.objects.create(deployment=deployment, sealed_key=sealing.seal(secrets.token_urlsafe(32)))
    except IntegrityError:
        return deployment.replicas.get(exited_at=None)


def _spec(deployment: Deployment, replica: Replica) -> LaunchSpec:
    job = engines.Job(
        name=replica.name,
        weights_path=deployment.weights.path,
        served_name=deployment.endpoint_model,
        key=sealing.unseal(replica.sealed_key),
        threads=settings.ENGINE_THREADS,
    )
    return engines.choose(deployment.engine).spec(job, deployment.options)


def _evidence(deployment: Deployment, replica: Replica) -> str:
    return "\n".join(_backend(deployment).log(replica.name, lines=EVIDENCE_LINES))


def _backend(deployment: Deployment) -> Backend:
    return backends[deployment.backend]
