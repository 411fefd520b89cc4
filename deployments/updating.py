"""Another version of what runs: it starts beside the old one, has to answer a real prompt, then takes the calls."""

from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.db.models import Max

from accounts import audit
from catalog.lifecycle import Status as Here
from catalog.models import Offer, Weights
from deployments import acting, engines, operations
from deployments.errors import BadOption, IllegalTransition, NotNow
from deployments.lifecycle import Reason, Status
from deployments.models import Deployment, Version
from deployments.tasks import ring

BESIDE = frozenset({Status.READY, Status.ASLEEP})


def update(
    deployment: Deployment, *, actor: str, revision: str = "", options: Mapping[str, Any] | None = None
) -> Version | None:
    """Try these weights and options (added to those it has) in its place; None if that is what runs already.

    Raises BadOption naming what is wrong, or NotNow while it starts, stops or is being updated.
    """
    weights = _weights(deployment, revision) if revision else deployment.weights
    offer = deployment.model.offers.filter(path=Offer.Path.DEPLOYABLE).first()
    checked = engines.choose(deployment.engine).check(
        deployment.options | dict(options or {}), max_context_tokens=operations.most_context(offer) if offer else None
    )
    if (weights.pk, checked) == (deployment.weights_id, deployment.options):
        return None
    with transaction.atomic():
        _refuse_unless_it_rests(deployment)
        if deployment.version_id is None:  # from before versions were kept
            first = acting.record_version(deployment, number=1, actor=deployment.created_by)
            acting.adopt(deployment, first)
        last = deployment.versions.aggregate(last=Max("number"))["last"]
        version = Version.objects.create(
            deployment=deployment,
            number=last + 1,
            weights=weights,
            hardware_id=deployment.hardware_id,
            engine=deployment.engine,
            options=checked,
            created_by=actor,
        )
        _try(deployment, version)
        audit.record(deployment.team, actor=actor, verb="updated", subject=f"{deployment.endpoint_model} {version}")
        ring(deployment.pk)
    return version


def rollback(deployment: Deployment, *, actor: str, number: int | None = None) -> Version | None:
    """One step back: to the version that took the calls before, or to that number. While an update is being tried,
    that is taken back. Raises BadOption for a number that it does not have, NotNow where there is nothing to go to."""
    with transaction.atomic():
        if deployment.status == Status.UPDATING:
            _take_back(deployment)
            version = deployment.version
        else:
            version = _target(deployment, number)
            _refuse_unless_it_rests(deployment)
            _try(deployment, version)
        audit.record(deployment.team, actor=actor, verb="rolled back", subject=f"{deployment.endpoint_model} {version}")
        ring(deployment.pk)
    return version


def before(deployment: Deployment) -> Version | None:
    """What a rollback would go to."""
    served = deployment.versions.filter(served_at__isnull=False, weights__status=Here.READY)
    if deployment.version_id:
        served = served.exclude(pk=deployment.version_id)
    return served.order_by("-served_at").first()


def _weights(deployment: Deployment, revision: str) -> Weights:
    here = deployment.model.weights.filter(status=Here.READY)
    found = here.filter(revision=revision).first()
    if found is None:
        known = ", ".join(here.values_list("revision", flat=True))
        raise BadOption("revision", f"{deployment.model.name} has no revision {revision!r} here; it has {known}")
    return found


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
