"""What the library asks about a team's deployments of its models; settings.LIBRARY_STANDING names this module."""

from collections.abc import Iterable
from uuid import UUID

from django.db.models import Count

from accounts.models import Team
from catalog.standing import Running, Standing
from deployments.lifecycle import IN_MOTION, SERVING, Status
from deployments.models import Deployment

MOST = 20


def at_a_glance(team: Team, model_ids: Iterable[UUID]) -> dict[UUID, Standing]:
    """How many of each model are awake, on their way, asleep and failed; a model without any is absent. One query."""
    rows = Deployment.objects.unsettled().of(team).filter(model_id__in=list(model_ids)).order_by()
    found: dict[UUID, Standing] = {}
    for model_id, status, count in rows.values_list("model_id", "status").annotate(Count("pk")):
        found[model_id] = found.get(model_id, Standing()) + _counted(status, count)
    return found


def running(team: Team, model_id: UUID) -> list[Running]:
    """The team's deployments of the model that are not stopped, those that answer first. One query."""
    rows = Deployment.objects.unsettled().of(team).filter(model_id=model_id).select_related("hardware")
    order: list[str] = [Status.READY, Status.UPDATING, Status.ASLEEP]
    found = [
        Running(row.pk, row.name, f"{team.slug}/{row.name}", row.status, row.hardware.name, row.created_by)
        for row in rows.order_by("-created_at")[: MOST * 10]
    ]
    return sorted(found, key=lambda one: order.index(one.status) if one.status in order else len(order))[:MOST]


def _counted(status: str, count: int) -> Standing:
    if status in SERVING:
        return Standing(awake=count)
    if status in IN_MOTION:
        return Standing(moving=count)
    return Standing(failed=count) if status == Status.FAILED else Standing(asleep=count)
