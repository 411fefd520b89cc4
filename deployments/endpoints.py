"""Where the gateway finds what runs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db.models import F, OuterRef, Prefetch, QuerySet, Subquery
from django.utils import timezone

from accounts import sealing
from accounts.models import Team
from catalog import offers
from catalog.licensing import stating
from catalog.licensing.policy import Terms
from deployments import engines, loads
from deployments.lifecycle import SERVING, Status
from deployments.models import Deployment, Replica, VersionAdapter
from deployments.tasks import ring


@dataclass(frozen=True, slots=True)
class Address:
    """One replica that answers, and the random key that it was started with."""

    name: str
    url: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A deployment as a target. `replicas` are those that take calls now. `expected_start_s` is what its last start
    took, None if it never got ready; `hold_s` bounds how long a call waits for it, None is the portal's default.
    `terms` are those of its weights and of all adapters on them; `brought_by` says which adapter's model each is of."""

    deployment_id: UUID
    team_id: UUID
    endpoint_model: str
    name: str
    model_name: str
    model_slug: str
    status: str
    reason: str
    replicas: tuple["Address", ...]
    context_tokens: int | None
    reads_media: bool
    is_platform: bool
    expected_start_s: float | None
    hold_s: int | None
    max_replicas: int = 1
    target_concurrency: int = 1
    terms: tuple[Terms, ...] = ()
    brought_by: Mapping[Terms, str] = field(default_factory=dict)

    def is_crowded(self, calls: Mapping[str, int], waiting: Mapping[UUID, int]) -> bool:
        """More calls than its replicas are for, and it may have more of them."""
        many = waiting.get(self.deployment_id, 0) + sum(calls.get(replica.name, 0) for replica in self.replicas)
        here = len(self.replicas)
        return 0 < here < self.max_replicas and many > here * self.target_concurrency

    @property
    def address(self) -> str:
        return self.replicas[0].url if self.replicas else ""


def live_endpoints() -> list[Endpoint]:
    """Every deployment that is not stopped, in three queries."""
    taking = Replica.objects.filter(exited_at=None, remove_asked_at=None, ready_at__isnull=False)
    live = Prefetch("replicas", taking, to_attr="live_replicas")
    loaded = ("team", "model", "version", *(f"weights__{name}" for name in stating.OF_WEIGHTS))
    of_adapters = ("weights", *(f"weights__{name}" for name in stating.OF_WEIGHTS))
    applied = Prefetch("version__adapters", VersionAdapter.objects.select_related(*of_adapters))
    rows = Deployment.objects.unsettled().select_related(*loaded).prefetch_related(live, applied)
    return [_endpoint(row, row.live_replicas) for row in with_last_start(rows)]  # type: ignore[attr-defined]


def callable_names(team: Team) -> list[str]:
    """What the team can call by name: its deployments, then the hosted models. In two queries."""
    own = Deployment.objects.unsettled().of(team).order_by("name").values_list("name", flat=True)
    return [f"{team.slug}/{name}" for name in own] + offers.callable_slugs()


def with_last_start(rows: QuerySet[Deployment]) -> QuerySet[Deployment]:
    """Each with `last_start`: how long its last replica took from its start to READY, None if none ever got there."""
    started = Replica.objects.filter(deployment=OuterRef("pk"), ready_at__isnull=False).order_by("-ready_at")
    took = started.annotate(took=F("ready_at") - F("started_at")).values("took")[:1]
    return rows.annotate(last_start=Subquery(took))


def touch(deployment_ids: Iterable[UUID]) -> None:
    """Calls are in flight for these now: their idle clocks start again."""
    Deployment.objects.filter(pk__in=list(deployment_ids)).update(last_call_at=timezone.now())


def report(reporter: str, *, crowded: Iterable[UUID], **held: Any) -> None:
    """What this gateway holds (see loads.report); a worker looks at once at those that are crowded."""
    loads.report(reporter, **held)
    for deployment_id in crowded:
        ring(deployment_id)


def _endpoint(row: Deployment, replicas: list[Replica]) -> Endpoint:
    serving = row.status in SERVING and not row.stop_asked_at
    ready = [replica for replica in replicas if serving and replica.address]
    last_start = row.last_start  # type: ignore[attr-defined]
    adapters = [one.weights for one in row.version.adapters.all()] if row.version else []
    return Endpoint(
        deployment_id=row.pk,
        team_id=row.team_id,
        endpoint_model=row.endpoint_model,
        name=row.name,
        model_name=row.model.name,
        model_slug=row.model.slug,
        status=Status.STOPPING if row.stop_asked_at else row.status,
        reason=row.get_reason_display(),
        replicas=tuple(Address(one.name, one.address, sealing.unseal(one.sealed_key)) for one in ready),
        context_tokens=row.options.get("context_tokens"),
        reads_media=engines.choose(row.engine).reads_media,
        is_platform=row.team.is_platform,
        expected_start_s=last_start.total_seconds() if last_start else None,
        hold_s=row.hold_s,
        max_replicas=row.max_replicas,
        target_concurrency=row.target_concurrency,
        terms=stating.of_weights(row.weights, *adapters),
        brought_by=stating.brought_by(adapters, to=stating.of_weights(row.weights)),
    )
