"""Carrying out a plan, one action after the other. Each is safe to repeat, and to do twice at once: a state moves by
compare-and-set, an engine is named by its replica, a place has one replica, and a replica is closed once.
"""

import contextlib
from collections.abc import Iterable

from django.db import transaction
from django.utils import timezone

from accounts import sealing
from catalog import fetching, keeping
from catalog import tasks as catalog_tasks
from catalog.errors import IllegalMove
from deployments import capacity, causes, looking, news, preparing, probing, uptime, verifying
from deployments.backends import Backend, backends
from deployments.errors import BackendError, DeploymentError, IllegalTransition
from deployments.launch import LaunchSpec
from deployments.lifecycle import SERVING, Reason, Status
from deployments.models import Deployment, DeploymentEvent, Replica, Version, VersionAdapter
from deployments.planning import (
    Action,
    Begin,
    Close,
    End,
    Ensure,
    GiveUpUpdate,
    Move,
    Remember,
    Remove,
    Restate,
    Serve,
    Start,
    Try,
    Unhealthy,
    View,
    Wait,
)  # fmt: skip
from deployments.preparing import What
from deployments.validation import gate

QUEUES = {Status.PENDING, Status.DOWNLOADING, Status.STARTING, Status.WAKING}


def carry_out(actions: Iterable[Action], view: View) -> bool:
    """True if something was done that has to be looked at again at once. Raises IllegalTransition as soon as somebody
    else's newer truth is met; what is left is planned anew."""
    return any([_do(action, view) for action in actions])


def _do(action: Action, view: View) -> bool:  # noqa: PLR0911, PLR0912 - one arm for each kind of action
    row = view.row
    match action:
        case Begin():
            return _begin(row)
        case Start():
            return _start(row, action)
        case Serve():
            return _serve(view, action.replica)
        case Ensure():
            return _ensure(row, action.replica)
        case Remove():
            _backend(row).remove(action.replica.name)
            return False
        case Unhealthy():
            Replica.objects.filter(pk=action.replica.pk).update(unhealthy_since=action.since)
            return False
        case Wait():
            _set(row, next_try_at=action.until)
            return False
        case Remember():
            surplus = action.surplus
            _set(row, surplus_since=surplus.since if surplus else None, surplus_peak=surplus.peak if surplus else 0)
            return False
        case Try():
            return _try(view, action.replica)
        case End():
            _end(row, action.replica, crashed=action.crashed)
        case Close():
            uptime.close(action.replica, view.of(action.replica), crashed=action.crashed, detail=action.detail)
        case GiveUpUpdate():
            _give_up_update(view, action)
        case Restate():
            row.restate(action.reason, since=row.status, detail=action.detail)
        case Move():
            detail = action.detail or (looking.evidence(row, action.evidence_of) if action.evidence_of else "")
            row.transition(action.to, since=row.status, reason=action.reason, detail=detail)
            if action.to == Status.READY:
                _served(row)
    return True


def _begin(row: Deployment) -> bool:
    if row.weights.is_in_motion:
        row.transition(Status.DOWNLOADING, since=row.status, reason=Reason.WEIGHTS_COMING)
        return True
    if not row.weights.is_ready:
        cause = causes.of_weights(row.weights)
        row.transition(Status.FAILED, since=row.status, reason=cause.reason, detail=cause.evidence)
        return True
    if _is_called_back(row):
        is_news = row.status != Status.DOWNLOADING
        if is_news:
            row.transition(Status.DOWNLOADING, since=row.status, reason=Reason.WEIGHTS_COMING)
        return is_news
    try:
        loaded = preparing.of_version(row.version) if row.version else preparing.loads(row.weights)
    except DeploymentError as error:
        row.transition(Status.FAILED, since=row.status, reason=Reason.BAD_WEIGHTS, detail=str(error))
        return True
    files = {loaded.base, *(one.weights for one in loaded.adapters)}
    large = causes.too_large(sum(one.size_bytes for one in files), row.hardware.memory_gib)
    if large:
        row.transition(Status.FAILED, since=row.status, reason=large.reason, detail=large.evidence)
    elif problem := next(filter(None, map(verifying.problem_with, files)), ""):
        row.transition(Status.FAILED, since=row.status, reason=Reason.BAD_WEIGHTS, detail=problem)
    elif replica := _claimed(row, row.version):
        row.transition(Status.STARTING, since=row.status, reason=Reason.ENGINE_LOADING)
        _ensure(row, replica)
    else:
        return False
    return True


def _is_called_back(row: Deployment) -> bool:
    """What of it is not on this disk comes from the bucket: its weights, their base, the adapters. True until all of it
    is here; what could not be brought has failed, and is refused with the rest."""
    adapters = row.version.adapters.select_related("weights") if row.version else []
    needed = filter(None, [row.weights, row.weights.base, *(one.weights for one in adapters)])
    away = [one for one in needed if one.is_in_motion or (one.is_ready and keeping.is_away(one))]
    for one in away:
        if one.is_ready:
            with contextlib.suppress(IllegalMove):
                fetching.call_back(one)
            catalog_tasks.ring(one.pk)
    return bool(away)


def _start(row: Deployment, action: Start) -> bool:
    for number in range(action.count):
        replica = _claimed(row, row.next_version if action.trial else row.version, trial=action.trial)
        if replica is None:
            if action.instead is not None:
                _end(row, action.instead, crashed=False)
            return number > 0 or action.trial or action.instead is not None
        _ensure(row, replica)
    return True


def _claimed(row: Deployment, version: Version | None, *, trial: bool = False) -> Replica | None:
    """A place for a replica. Who gets none waits for its turn, but for a trial beside what runs: that is given up."""
    replica = capacity.claim(row, version)
    if replica is not None:
        replica.deployment = row
        if row.queued_at is not None and row.status not in {Status.PENDING, Status.DOWNLOADING}:
            row.restate(Reason.ENGINE_LOADING, since=row.status)
        return replica
    if trial:
        room = f"{row.hardware.name} has room for {row.hardware.capacity} replicas, and all are in use."
        back_from_update(row, Reason.UPDATE_FAILED, f"{Reason.NO_CAPACITY.label}. {room}")
    elif row.status in QUEUES and row.queued_at is None:
        row.restate(Reason.NO_CAPACITY, since=row.status)
    return None


def _ensure(row: Deployment, replica: Replica) -> bool:
    """True if it can't be started."""
    try:
        _backend(row).ensure(_spec(row, replica))
        return False
    except DeploymentError as error:
        unknown = Reason.BACKEND_REFUSED if isinstance(error, BackendError) else Reason.BAD_WEIGHTS
        if row.status == Status.UPDATING and replica.version_id == row.next_version_id:
            _end(row, replica, crashed=True)
            back_from_update(row, Reason.UPDATE_FAILED, str(error))
        elif row.status in {Status.STARTING, Status.WAKING}:
            reason = causes.of_exit(None, [str(error)]).reason or unknown
            row.transition(Status.FAILED, since=row.status, reason=reason, detail=str(error))
        else:
            _end(row, replica, crashed=True)
    return True


def _serve(view: View, replica: Replica) -> bool:
    if not uptime.ready(replica, view.of(replica).alive_at or timezone.now()):
        return False
    if view.row.status in SERVING:  # else the move that follows tells it
        news.tell(view.row.pk)
    return True


def _try(view: View, replica: Replica) -> bool:
    """A real prompt, then those of its prompt set. No lock and no transaction is held while it is asked."""
    row = view.row
    outcome = gate.outcome(replica)
    if outcome is None:
        if problem := probing.problem_with(replica):
            _end(row, replica, crashed=True)
            back_from_update(row, Reason.UPDATE_FAILED, problem)
            return True
        outcome = gate.open_for(row, replica)
    if outcome.waits:
        if row.reason == Reason.VALIDATING:
            return False
        row.restate(Reason.VALIDATING, since=row.status)
    elif outcome.blocks:
        _end(row, replica, crashed=False)
        back_from_update(row, Reason.VALIDATION_FAILED, outcome.detail)
    else:
        _take_over(view, replica, outcome.detail)
    return True


def _take_over(view: View, replica: Replica, detail: str) -> None:
    row = view.row
    version = row.next_version
    assert version is not None  # noqa: S101 - it has a replica that was just tried
    with transaction.atomic():
        row.transition(Status.READY, since=Status.UPDATING, reason=Reason.UPDATED, detail=detail)
        if not uptime.ready(replica, view.of(replica).alive_at or timezone.now()):
            raise IllegalTransition("it was asked to go while it was tried")
        adopt(row, version)
        _served(row)


def _served(row: Deployment) -> None:
    if row.version_id:
        Version.objects.filter(pk=row.version_id).update(served_at=timezone.now())


def adopt(row: Deployment, version: Version) -> None:
    """From now on this is what takes the calls and what is started; in the caller's transaction."""
    _set(
        row,
        version=version,
        next_version=None,
        weights_id=version.weights_id,
        engine=version.engine,
        options=version.options,
        next_try_at=None,
    )


def _give_up_update(view: View, action: GiveUpUpdate) -> None:
    row, detail = view.row, action.detail
    for replica in view.replicas:
        if replica.version_id == row.next_version_id and replica.remove_asked_at is None:
            detail = detail or looking.evidence(row, replica)
            if view.of(replica).alive:
                _end(row, replica, crashed=True)
    if action.reason == Reason.VALIDATION_FAILED:
        back_from_update(row, Reason.VALIDATION_FAILED, "The prompt set was not answered in time.")
        return
    why = Reason(action.reason).label or "Its engine exited by itself"
    back_from_update(row, Reason.UPDATE_FAILED, f"{why}.\n{detail}".strip())


def back_from_update(row: Deployment, reason: Reason, detail: str = "") -> None:
    """What took the calls goes on; the version that was tried never took one. Who slept sleeps again."""
    answering = row.replicas.filter(exited_at=None, remove_asked_at=None, ready_at__isnull=False)
    with transaction.atomic():
        to = Status.READY
        if not answering.exclude(version=row.next_version_id).exists():
            to = Status.ASLEEP if row.min_replicas == 0 else Status.STARTING
        row.transition(to, since=Status.UPDATING, reason=reason, detail=detail)
        _set(row, next_version=None)


def _end(row: Deployment, replica: Replica, *, crashed: bool) -> None:
    """From now on no call is sent to it."""
    fields: dict[str, object] = {"remove_asked_at": timezone.now(), "crashed": crashed}
    if crashed:
        fields["exit_detail"] = looking.evidence(row, replica)
    with transaction.atomic():
        if Replica.objects.filter(pk=replica.pk, exited_at=None, remove_asked_at=None).update(**fields):
            news.tell(row.pk)


def _set(row: Deployment, **fields: object) -> None:
    Deployment.objects.filter(pk=row.pk).update(**fields)
    for name, value in fields.items():
        setattr(row, name, value)


def record_version(row: Deployment, what: What, *, number: int, actor: str) -> Version:
    """What is to run, kept; its secrets sealed. In the caller's transaction."""
    version = Version.objects.create(
        deployment=row,
        number=number,
        weights=what.loaded.chosen,
        hardware=what.hardware,
        engine=what.loaded.engine_name,
        options=what.options,
        env=what.env,
        sealed_secrets={name: sealing.seal(value) for name, value in what.secrets.items()},
        created_by=actor,
    )
    VersionAdapter.objects.bulk_create(
        VersionAdapter(version=version, weights=one.weights, scale=one.scale) for one in what.loaded.extra
    )
    return version


def record_birth(row: Deployment, what: What, *, actor: str) -> None:
    """The first version and the first event; in the caller's transaction."""
    _set(row, version=record_version(row, what, number=1, actor=actor))
    DeploymentEvent.objects.create(deployment=row, after=Status.PENDING, reason=Reason.ASKED)


def _spec(row: Deployment, replica: Replica) -> LaunchSpec:
    version = replica.version
    if version is None:  # from before versions were kept
        loaded, options, hardware, env = preparing.loads(row.weights), row.options, row.hardware, {}
    else:
        loaded, options, hardware = preparing.of_version(version), version.options, version.hardware
        env = version.env | {name: sealing.unseal(sealed) for name, sealed in version.sealed_secrets.items()}
    job = preparing.job_of(
        loaded,
        hardware,
        name=replica.name,
        served_name=row.endpoint_model,
        key=sealing.unseal(replica.sealed_key),
        env=tuple(env.items()),
    )
    return loaded.engine.spec(job, options)


def _backend(row: Deployment) -> Backend:
    return backends[row.backend]
