"""Another version of what runs: it starts beside the old one, has to answer a real prompt, then takes the calls."""

from collections.abc import Iterable, Mapping
from typing import Any

from django.db import transaction
from django.db.models import Max

from accounts import audit, sealing
from catalog.licensing import agreements
from catalog.lifecycle import Status as Here
from catalog.models import Weights
from deployments import acting, preparing
from deployments.engines.base import ALWAYS
from deployments.errors import BadOption, IllegalTransition, NotDeployable, NotNow
from deployments.lifecycle import Reason, Status
from deployments.models import Deployment, Version
from deployments.preparing import What
from deployments.tasks import ring

NOTHING: dict[str, Any] = {"env": {}, "secrets": {}, "adapters": ()}
BESIDE = frozenset({Status.READY, Status.ASLEEP})


def update(
    deployment: Deployment,
    *,
    actor: str,
    revision: str = "",
    options: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    secrets: Mapping[str, str | None] | None = None,
    adapters: Iterable[str] | None = None,
) -> Version | None:
    """Try this in its place; None if that is what runs already. What is not named stays. Options are added to those it
    has, `env` and `adapters` take the place of those it has, a secret is set, or removed where it is None or empty.

    Raises BadOption naming what is wrong, Unlicensed where the new weights' licence asks or is denied, or NotNow while
    it starts, stops or is being updated.
    """
    running = deployment.version
    weights = preparing.weights_of(deployment.model, revision) if revision else deployment.weights
    found = _what(
        deployment,
        running,
        weights=weights,
        options=_carried(deployment, weights) | dict(options or {}),
        env=env if env is not None else _env(running),
        secrets={name: value for name, value in (_secrets(running) | dict(secrets or {})).items() if value},
        adapters=adapters,
    )
    if _is_running(deployment, found):
        return None
    use = agreements.policy_of(deployment.team_id).use_of(deployment.endpoint_model)
    preparing.check_licence(deployment.team, found.loaded, use=use)
    with transaction.atomic():
        _refuse_unless_it_rests(deployment)
        if deployment.version_id is None:  # from before versions were kept
            was = _what(deployment, None, weights=deployment.weights, options=deployment.options, **NOTHING)
            first = acting.record_version(deployment, was, number=1, actor=deployment.created_by)
            acting.adopt(deployment, first)
        last = deployment.versions.aggregate(last=Max("number"))["last"]
        version = acting.record_version(deployment, found, number=last + 1, actor=actor)
        _try(deployment, version)
        _tell(deployment, "updated", running, version, actor=actor)
        ring(deployment.pk)
    return version


def rollback(deployment: Deployment, *, actor: str, number: int | None = None) -> Version | None:
    """One step back: to the version that took the calls before, or to that number. While an update is being tried,
    that is taken back. Raises BadOption for a number that it does not have, NotNow where there is nothing to go to, or
    Unlicensed where the team may not run that version by now."""
    with transaction.atomic():
        was = deployment.next_version if deployment.status == Status.UPDATING else deployment.version
        if deployment.status == Status.UPDATING:
            _take_back(deployment)
            version = deployment.version
        else:
            version = _target(deployment, number)
            preparing.check_version_licence(deployment, version)
            _refuse_unless_it_rests(deployment)
            _try(deployment, version)
        _tell(deployment, "rolled back", was, version, actor=actor)
        ring(deployment.pk)
    return version


def before(deployment: Deployment) -> Version | None:
    """What a rollback would go to."""
    served = deployment.versions.filter(served_at__isnull=False, weights__status=Here.READY)
    if deployment.version_id:
        served = served.exclude(pk=deployment.version_id)
    return served.order_by("-served_at").first()


def _tell(deployment: Deployment, verb: str, was: Version | None, now: Version | None, *, actor: str) -> None:
    before, after = (preparing.version_described(one) if one else {} for one in (was, now))
    subject = f"{deployment.endpoint_model} {now}"
    audit.record(deployment.team, actor=actor, verb=verb, subject=subject, before=before, after=after)


def _what(
    deployment: Deployment,
    running: Version | None,
    *,
    weights: Weights,
    options: Mapping[str, Any],
    env: Mapping[str, str],
    secrets: Mapping[str, str],
    adapters: Iterable[str] | None,
) -> What:
    """Checked as a new deployment is, on the same hardware."""
    if adapters is None:
        rows = running.adapters.all() if running else []
        adapters = [f"{row.weights_id}={row.scale}" for row in rows]
    try:
        return preparing.what(
            deployment.team,
            model=deployment.model,
            hardware=deployment.hardware,
            weights=weights,
            options=options,
            env=env,
            secrets=secrets,
            adapters=adapters,
        )
    except NotDeployable as error:
        raise BadOption("options", str(error)) from error


def _carried(deployment: Deployment, weights: Weights) -> dict[str, Any]:
    """The options that it has; of another engine's, those that every engine knows."""
    if preparing.loads(weights).engine_name == deployment.engine:
        return dict(deployment.options)
    return {name: value for name, value in deployment.options.items() if name in ALWAYS}


def _env(running: Version | None) -> dict[str, str]:
    return dict(running.env) if running else {}


def _secrets(running: Version | None) -> dict[str, str]:
    sealed = running.sealed_secrets if running else {}
    return {name: sealing.unseal(value) for name, value in sealed.items()}


def _is_running(deployment: Deployment, found: What) -> bool:
    running = deployment.version
    extra = {(one.weights.pk, one.scale) for one in found.loaded.extra}
    has = {(row.weights_id, row.scale) for row in running.adapters.all()} if running else set()
    now = (deployment.weights_id, deployment.options, _env(running), _secrets(running), has)
    return now == (found.loaded.chosen.pk, found.options, found.env, found.secrets, extra)


def _target(deployment: Deployment, number: int | None) -> Version:
    found = before(deployment) if number is None else deployment.versions.filter(number=number).first()
    if found is not None and not found.weights.is_ready:
        raise NotNow(f"The weights of {found} were removed: there is no going back to it.")
    if found is None and number is not None:
        raise BadOption("version", f"{deployment.endpoint_model} has no version {number}")
    if found is None:
        raise NotNow(f"{deployment.endpoint_model} has run in no other version: there is nothing to go back to.")
    if found.pk == deployment.version_id:
        raise NotNow(f"{deployment.endpoint_model} runs version {found.number} already.")
    return found


def _refuse_unless_it_rests(deployment: Deployment) -> None:
    deployment.refresh_from_db()
    if deployment.stop_asked_at or deployment.status not in BESIDE | {Status.FAILED}:
        doing = "stopping" if deployment.stop_asked_at else deployment.status
        raise NotNow(f"{deployment.endpoint_model} is {doing}: what it runs can be changed once that is over.")


def _try(deployment: Deployment, version: Version) -> None:
    """Beside what runs or sleeps; what has failed is started anew as that version."""
    try:
        if deployment.status == Status.FAILED:
            deployment.transition(Status.PENDING, since=Status.FAILED, reason=Reason.UPDATE_ASKED)
            acting.adopt(deployment, version)
            return
        deployment.transition(Status.UPDATING, since=deployment.status, reason=Reason.UPDATE_ASKED)
    except IllegalTransition as error:
        raise NotNow(f"{deployment.endpoint_model} has just changed ({error}): try again.") from error
    Deployment.objects.filter(pk=deployment.pk).update(next_version=version)


def _take_back(deployment: Deployment) -> None:
    try:
        acting.back_from_update(deployment, Reason.UPDATE_TAKEN_BACK)
    except IllegalTransition as error:
        raise NotNow(f"{deployment.endpoint_model} has just changed ({error}): look at it again.") from error
