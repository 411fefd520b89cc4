"""How many replicas a hardware has room for, and whose turn it is: first come, first served."""

import secrets
from uuid import UUID

from django.db import IntegrityError, models, transaction
from django.db.models import Count, Q
from django.utils import timezone

from accounts import sealing
from catalog.models import Hardware
from deployments.models import Deployment, Replica, Version


def claim(deployment: Deployment, version: Version | None) -> Replica | None:
    """A new replica's row in a free place, or None if there is no room, or somebody who came first has none yet.

    Asked twice at once for the same deployment it makes two rows at most in two places; who asks is alone with it.
    """
    try:
        with transaction.atomic():
            hardware = Hardware.objects.select_for_update(no_key=True).get(pk=deployment.hardware_id)
            if hardware.capacity is not None and not _is_next(deployment, hardware, hardware.capacity):
                return None
            places = set(deployment.replicas.filter(exited_at=None).values_list("ordinal", flat=True))
            return Replica.objects.create(
                deployment=deployment,
                version=version,
                ordinal=next(place for place in range(len(places) + 1) if place not in places),
                sealed_key=sealing.seal(secrets.token_urlsafe(32)),
            )
    except IntegrityError:  # somebody else has just taken the place
        return None


def position(deployment: Deployment) -> int | None:
    """Its place in the queue for its hardware, 1 is next; None if it does not wait."""
    if deployment.queued_at is None:
        return None
    return 1 + _before(deployment).count()


def in_line(hardware_id: str) -> list[UUID]:
    """Who can be served now, in their order."""
    hardware = Hardware.objects.get(pk=hardware_id)
    waiting = Deployment.objects.filter(hardware=hardware, queued_at__isnull=False).order_by("queued_at", "pk")
    free = None if hardware.capacity is None else max(0, hardware.capacity - in_use(hardware_id))
    return list(waiting.values_list("pk", flat=True)[:free])


def room() -> dict[str, int]:
    """Hardware with a bound -> how many more replicas it has room for; in one query."""
    live = Count("deployments__replicas", filter=Q(deployments__replicas__exited_at=None), distinct=True)
    rows = Hardware.objects.filter(capacity__isnull=False).annotate(live=live)
    return {row.pk: max(0, row.capacity - row.live) for row in rows if row.capacity is not None}


def in_use(hardware_id: str) -> int:
    """Replicas that have a place now, also those that are ending: their memory is not free yet."""
    return Replica.objects.filter(deployment__hardware=hardware_id, exited_at=None).count()


def _is_next(deployment: Deployment, hardware: Hardware, capacity: int) -> bool:
    free = capacity - in_use(hardware.pk)
    return _before(deployment).filter(hardware=hardware).count() < free


def _before(deployment: Deployment) -> models.QuerySet[Deployment]:
    came_at = deployment.queued_at or timezone.now()
    earlier = Q(queued_at__lt=came_at) | Q(queued_at=came_at, pk__lt=deployment.pk)
    return Deployment.objects.filter(earlier, hardware=deployment.hardware_id).exclude(pk=deployment.pk)
