"""How many replicas a hardware has room for, and whose turn it is: first come, first served."""

import secrets
from collections import Counter
from collections.abc import Iterable
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


def positions(hardware_ids: Iterable[str]) -> dict[UUID, int]:
    """Who waits for these, and their turn, 1 is next; in one query."""
    waiting = Deployment.objects.filter(hardware__in=set(hardware_ids), queued_at__isnull=False)
    turns: Counter[str] = Counter()
    found = {}
    for pk, hardware_id in waiting.order_by("queued_at", "pk").values_list("pk", "hardware_id"):
        turns[hardware_id] += 1
        found[pk] = turns[hardware_id]
    return found


def served_after(deployment_id: UUID) -> list[UUID]:
    """Who waits for the hardware of this one, which may just have given a place back, and can be served now."""
    waiting = Deployment.objects.filter(hardware__deployments=deployment_id, queued_at__isnull=False)
    rows = list(waiting.order_by("queued_at", "pk").values_list("pk", "hardware_id", "hardware__capacity"))
    if not rows:
        return []
    _, hardware_id, bound = rows[0]
    free = len(rows) if bound is None else max(0, bound - in_use(hardware_id))
    return [pk for pk, _, _ in rows[:free] if pk != deployment_id]


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
