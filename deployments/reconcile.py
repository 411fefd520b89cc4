"""One step, observed -> wished. Safe to run twice and at once: a state moves by compare-and-set, an engine is named
by its replica, and a replica is closed once. A lost message costs one tick of `sweep`.
"""

import hashlib
import logging
import secrets
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.core.cache import cache
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import sealing
from billing import metering, pricing
from catalog.models import Weights
from deployments import engines
from deployments.backends import Observation, Seen, backends
from deployments.errors import BackendError, IllegalTransition
from deployments.launch import LaunchSpec
from deployments.lifecycle import IN_MOTION, Reason, Status
from deployments.models import Deployment, Replica

log = logging.getLogger(__name__)

CRASHES_ALLOWED = 3
CRASH_WINDOW = timedelta(minutes=5)
EVIDENCE_LINES = 8
STEP_PAUSE_S = 0.1


def follow(deployment_id: UUID, *, seconds: float) -> bool:
    """Step until it is settled for now, or `seconds` are over. True if it is still in motion."""
    end = time.monotonic() + seconds
    while deployment := Deployment.objects.unsettled().filter(pk=deployment_id).first():
        step(deployment)
        if deployment.status not in IN_MOTION and not deployment.stop_asked_at:
            return False
        if time.monotonic() > end:
            return True
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
                _remove_replica(deployment)
    except IllegalTransition:
        deployment.refresh_from_db()


def sweep() -> None:
    """The truth with no message: every unsettled deployment gets a step, every engine without a row is removed."""
    for deployment in Deployment.objects.unsettled().select_related("team", "model", "hardware", "weights"):
        try:
            step(deployment)
        except Exception:  # one broken deployment must not keep the others waiting
            log.exception("sweep: %s", deployment.pk)
    for alias in settings.DEPLOYMENT_BACKENDS:
        _remove_orphans(alias)


def _remove_orphans(alias: str) -> None:
    """A replica's row is written before its engine, so an engine without a live row belongs to nobody."""
    running = set(backends[alias].running())
    rows = Replica.objects.filter(exited_at=None, deployment__backend=alias)
    for name in running - {replica.name for replica in rows.only("id")}:
        log.warning("sweep: removing the orphan engine %s", name)
        backends[alias].remove(name)


def _begin(deployment: Deployment) -> None:
    if problem := _weights_problem(deployment.weights):
        deployment.transition(Status.FAILED, since=deployment.status, reason=Reason.BAD_WEIGHTS, detail=problem)
        return
    _live_replica(deployment)
    deployment.transition(Status.STARTING, since=deployment.status, reason=Reason.ENGINE_LOADING)
    _await_ready(deployment)


def _await_ready(deployment: Deployment) -> None:
    replica = _live_replica(deployment)
    seen = backends[deployment.backend].observe(replica.name)
    match seen.seen:
        case Seen.READY:
            _note(replica, seen, ready_at=timezone.now())
            deployment.transition(Status.READY, since=deployment.status, reason=Reason.ENGINE_HEALTHY)
        case Seen.EXITED:
            _after_exit(deployment, replica, seen)
        case Seen.ABSENT if not _late(deployment):
            _ensure(deployment, replica)
        case _ if _late(deployment):
            _fail(deployment, replica, Reason.START_TIMEOUT)
        case _:
            _note(replica, seen)
            _bill(replica, _full_minute(timezone.now()))


def _watch(deployment: Deployment) -> None:
    replica = _live_replica(deployment)
    seen = backends[deployment.backend].observe(replica.name)
    if seen.seen in {Seen.EXITED, Seen.ABSENT}:
        _after_exit(deployment, replica, seen)
        return
    _bill(replica, _full_minute(timezone.now()))
    if _idle(deployment, replica):
        deployment.transition(Status.ASLEEP, since=deployment.status, reason=Reason.IDLE)
        _remove_replica(deployment)


def _tear_down(deployment: Deployment) -> None:
    if _remove_replica(deployment):
        deployment.transition(Status.STOPPED, since=deployment.status, reason=Reason.GONE)


def _remove_replica(deployment: Deployment) -> bool:
    """True once the backend's own list lacks it and its last second is billed."""
    replica = deployment.replicas.filter(exited_at=None).first()
    if replica is None:
        return True
    backend = backends[deployment.backend]
    seen = backend.observe(replica.name)
    if seen.seen in {Seen.STARTING, Seen.READY} or replica.name in backend.running():
        backend.remove(replica.name)
        return False
    _close(replica, seen, detail="removed")
    return True


def _after_exit(deployment: Deployment, replica: Replica, seen: Observation) -> None:
    """The engine ended by itself: bill to its real exit, start another, or give up when it does so again and again."""
    evidence = "\n".join(backends[deployment.backend].log(replica.name, lines=EVIDENCE_LINES))
    _close(replica, seen, detail=f"exit code {seen.exit_code}\n{evidence}")
    since = timezone.now() - CRASH_WINDOW
    crashes = deployment.replicas.filter(exited_at__gte=since).exclude(exit_detail="removed").count()
    if crashes >= CRASHES_ALLOWED:
        deployment.transition(Status.FAILED, since=deployment.status, reason=Reason.CRASH_LOOP, detail=evidence)
    elif deployment.status == Status.READY:
        deployment.transition(Status.STARTING, since=deployment.status, reason=Reason.ENGINE_EXITED, detail=evidence)


def _fail(deployment: Deployment, replica: Replica, reason: Reason) -> None:
    evidence = "\n".join(backends[deployment.backend].log(replica.name, lines=EVIDENCE_LINES))
    deployment.transition(Status.FAILED, since=deployment.status, reason=reason, detail=evidence)
    _remove_replica(deployment)


def _ensure(deployment: Deployment, replica: Replica) -> None:
    try:
        backends[deployment.backend].ensure(_spec(deployment, replica))
    except BackendError as error:
        deployment.transition(Status.FAILED, since=deployment.status, reason=Reason.BACKEND_REFUSED, detail=str(error))
        return
    if Replica.objects.filter(pk=replica.pk).exclude(exited_at=None).exists():
        backends[deployment.backend].remove(replica.name)  # stopped while it was being started


def _spec(deployment: Deployment, replica: Replica) -> LaunchSpec:
    job = engines.Job(
        name=replica.name,
        weights_path=deployment.weights.path,
        served_name=deployment.endpoint_model,
        key=sealing.unseal(replica.sealed_key),
        threads=settings.ENGINE_THREADS,
    )
    return engines.choose(deployment.engine).spec(job, deployment.options)


def _live_replica(deployment: Deployment) -> Replica:
    if replica := deployment.replicas.filter(exited_at=None).first():
        return replica
    try:
        with transaction.atomic():
            return Replica.objects.create(deployment=deployment, sealed_key=sealing.seal(secrets.token_urlsafe(32)))
    except IntegrityError:
        return deployment.replicas.get(exited_at=None)


def _note(replica: Replica, seen: Observation, **fields: datetime) -> None:
    """Copy what the backend says onto the row, once it is known."""
    Replica.objects.filter(pk=replica.pk).update(started_at=seen.started_at, address=seen.address, **fields)
    replica.refresh_from_db()


def _close(replica: Replica, seen: Observation, *, detail: str) -> None:
    """The engine is gone: bill it to its real exit and close its row, in one transaction, once."""
    with transaction.atomic():
        row = Replica.objects.select_for_update(of=("self",)).get(pk=replica.pk)
        if row.exited_at:
            return
        row.started_at = row.started_at or seen.started_at
        row.exited_at = seen.exited_at or row.billed_until or row.started_at or timezone.now()
        row.exit_detail, row.address, row.sealed_key = detail, "", ""
        row.save()
        _bill(row, row.exited_at)


def _bill(replica: Replica, until: datetime) -> None:
    """Bill the replica's uptime up to `until`; what was billed before is not billed again."""
    with transaction.atomic():
        row = Replica.objects.select_for_update(of=("self",)).get(pk=replica.pk)
        begin = row.billed_until or row.started_at
        if begin is None or until <= begin:
            return
        deployment = row.deployment
        metering.record_compute(
            replica_id=row.pk,
            team=deployment.team,
            sku=deployment.hardware.sku,
            source=deployment.endpoint_model,
            model_name=deployment.model.name,
            deployment_name=deployment.name,
            started_at=begin,
            ended_at=until,
            prices=pricing.prices_at(deployment.hardware.sku, at=row.started_at),
        )
        Replica.objects.filter(pk=row.pk).update(billed_until=until)


def _full_minute(moment: datetime) -> datetime:
    """While a replica runs it is billed in full minutes of UTC only: the slices' ids depend on nothing else."""
    return moment.astimezone(UTC).replace(second=0, microsecond=0)


def _late(deployment: Deployment) -> bool:
    return timezone.now() > deployment.status_since + timedelta(seconds=deployment.start_deadline_s)


def _idle(deployment: Deployment, replica: Replica) -> bool:
    if deployment.min_replicas > 0 or replica.ready_at is None:
        return False
    last = max(filter(None, [replica.ready_at, deployment.last_call_at, deployment.status_since]))
    return timezone.now() > last + timedelta(seconds=deployment.idle_window_s)


def _weights_problem(weights: Weights) -> str:
    """Empty if the file is there and is the pinned one; its hash is read again only when the file has changed."""
    path = Path(weights.path)
    try:
        facts = path.stat()
    except OSError as error:
        return f"The weights can't be read: {error}"
    if facts.st_size != weights.size_bytes:
        return f"The weights have {facts.st_size} bytes, not the {weights.size_bytes} that were verified"
    key = f"weights-sha256:{hashlib.sha256(weights.path.encode()).hexdigest()}:{facts.st_size}:{facts.st_mtime_ns}"
    digest = cache.get(key)
    if digest is None:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        cache.set(key, digest, timeout=None)
    return "" if digest == weights.sha256 else f"The weights' sha256 is {digest}, not {weights.sha256}"
