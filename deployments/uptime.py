"""A replica's uptime, from its engine's real start to its real exit, billed once, in one transaction with its row."""

from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from billing import metering, pricing
from deployments.backends import Observation
from deployments.models import Replica


def note(replica: Replica, seen: Observation) -> None:
    """Copy onto the row what the backend says, as soon as it is known; bill the full minutes until now."""
    if seen.started_at and (replica.started_at, replica.address) != (seen.started_at, seen.address):
        replica.started_at, replica.address = seen.started_at, seen.address
        Replica.objects.filter(pk=replica.pk, exited_at=None).update(started_at=seen.started_at, address=seen.address)
    begin = replica.billed_until or replica.started_at
    if begin and seen.alive_at and (full := metering.compute_slices(begin, seen.alive_at, final=False)):
        with transaction.atomic():
            row = _locked(replica.pk)
            if row.exited_at is None:
                _bill(row, full[-1].ended_at)
        replica.refresh_from_db()


def close(replica: Replica, seen: Observation, *, crashed: bool, detail: str) -> None:
    """The engine is gone: bill it to its real exit and close its row. Closing it again changes nothing."""
    with transaction.atomic():
        row = _locked(replica.pk)
        if row.exited_at:
            return
        row.started_at = row.started_at or seen.started_at
        ended = [moment for moment in (seen.exited_at, row.billed_until) if moment]
        row.exited_at = max(ended) if ended else row.started_at or timezone.now()
        row.exit_code, row.crashed, row.exit_detail = seen.exit_code, crashed, detail
        row.address, row.sealed_key = "", ""
        _bill(row, row.exited_at)
        row.save()
    replica.refresh_from_db()


def _locked(replica_id: UUID) -> Replica:
    rows = Replica.objects.select_related("deployment__team", "deployment__hardware", "deployment__model")
    return rows.select_for_update(of=("self",)).get(pk=replica_id)


def _bill(row: Replica, until: datetime) -> None:
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
    row.billed_until = until
    Replica.objects.filter(pk=row.pk).update(billed_until=until)
