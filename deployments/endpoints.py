"""Where the gateway finds what runs."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

from django.db.models import Prefetch
from django.utils import timezone

from accounts import sealing
from deployments.lifecycle import Status
from deployments.models import Deployment, Replica


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A deployment as a target. `address` and `key` are empty unless it is ready."""

    deployment_id: UUID
    team_id: UUID
    endpoint_model: str
    name: str
    model_name: str
    model_slug: str
    status: str
    reason: str
    address: str
    key: str = field(repr=False)
    context_tokens: int | None
    is_platform: bool


def live_endpoints() -> list[Endpoint]:
    """Every deployment that is not stopped, in two queries."""
    live = Prefetch("replicas", Replica.objects.filter(exited_at=None, remove_asked_at=None), to_attr="live_replicas")
    rows = Deployment.objects.unsettled().select_related("team", "model").prefetch_related(live)
    return [_endpoint(row, row.live_replicas) for row in rows]  # type: ignore[attr-defined]


def touch(deployment_ids: Iterable[UUID]) -> None:
    """Calls are in flight for these now: their idle clocks start again."""
    Deployment.objects.filter(pk__in=list(deployment_ids)).update(last_call_at=timezone.now())


def _endpoint(row: Deployment, replicas: list[Replica]) -> Endpoint:
    replica = replicas[0] if replicas and row.status == Status.READY and not row.stop_asked_at else None
    return Endpoint(
        deployment_id=row.pk,
        team_id=row.team_id,
        endpoint_model=row.endpoint_model,
        name=row.name,
        model_name=row.model.name,
        model_slug=row.model.slug,
        status=Status.STOPPING if row.stop_asked_at else row.status,
        reason=row.get_reason_display(),
        address=replica.address if replica else "",
        key=sealing.unseal(replica.sealed_key) if replica else "",
        context_tokens=row.options.get("context_tokens"),
        is_platform=row.team.is_platform,
    )
