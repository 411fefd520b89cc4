"""Weights that a team no longer wants: their files go at once, and their content with the last that has it."""

from typing import Any

from django.db import transaction

from accounts import audit
from catalog import keeping, offers, store
from catalog.errors import InUse
from catalog.lifecycle import Reason, Status
from catalog.models import Offer, Weights


def users_of(weights: Weights) -> list[str]:
    """What still needs them, by name: deployments that are not stopped, adapters on top."""
    own = [one for one in weights.model.deployments.all() if _uses(one, weights)]
    applied = [one.version for one in weights.applications.all()]
    on_its_base = [one.deployment for one in applied if one.pk in _versions_of(one.deployment)]
    deployments = {one.pk: one for one in [*own, *on_its_base] if one.status != "stopped"}.values()
    adapters = [
        one for one in weights.adapters.all() if one.kind == Weights.Kind.ADAPTER and one.status != Status.REMOVED
    ]
    return [*(str(one) for one in deployments), *(f"the adapter {one.model.name}" for one in adapters)]


def _uses(deployment: Any, weights: Weights) -> bool:
    """It takes calls with them, or an update tries them. What deployments are is known above this app alone."""
    versions = [one for one in (deployment.version, deployment.next_version) if one]
    return weights.pk in {deployment.weights_id, *(one.weights_id for one in versions)}


def _versions_of(deployment: Any) -> set[Any]:
    return {deployment.version_id, deployment.next_version_id}


def remove(weights: Weights, *, actor: str) -> None:
    """Gone, files and all; the row stays to say what ran. InUse names what still needs them. Safe to call twice."""
    with transaction.atomic():
        row = Weights.objects.select_for_update(of=("self",)).select_related("model", "team").get(pk=weights.pk)
        if row.status != Status.REMOVED:
            if users := users_of(row):
                names = ", ".join(users[:5])
                raise InUse(f"{row} can't be removed while it is used by {names}. Stop or remove that first.")
            Offer.objects.filter(weights=row).delete()
            row.move(Status.REMOVED, since=row.status, reason=Reason.REMOVE_ASKED)
            row.files.update(blob=None)
            offers.offer_newest(row.model)
            before = {"revision": row.revision, "bytes": row.size_bytes, "source": row.source}
            audit.record(row.team, actor=actor, verb="removed the weights", subject=str(row), before=before)
    store.drop(weights.pk)
    keeping.forget(store.forget_unused())
    weights.refresh_from_db()
