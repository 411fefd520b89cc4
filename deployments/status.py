"""What a deployment's page and the API say about it: one reading, used by both."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.models import Case, Count, Exists, OuterRef, Prefetch, Q, QuerySet, Subquery, When
from django.utils import timezone

from accounts.models import Team
from billing import pricing, sources, usage
from billing.metering import Slice
from billing.meters import COMPUTE_SECONDS, COMPUTE_STARTING_FAILED
from billing.models import Price
from billing.sources import Mark
from billing.usage import Life
from deployments import capacity
from deployments.lifecycle import NEXT_STEPS, SETTLED, Reason, Status, Step
from deployments.models import Deployment, DeploymentEvent, Replica

HOUR = timedelta(hours=1)
ENDED_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Report:
    """A deployment as it stands, with its live replicas. `cost` is the ledger's sum so far, `unbilled` what they have
    run up since. `queue_position`: who waits for capacity, and how many are served before; 1 is next. `lately`: for a
    page, the replicas that ended within the hour or last of all, the newest first."""

    row: Deployment
    replicas: tuple[Replica, ...]
    per_second: Decimal | None
    cost: Decimal
    unbilled: Decimal
    queue_position: int | None = None
    failed_start_is_free: bool = True
    lately: tuple[Replica, ...] = ()

    @property
    def replica(self) -> Replica | None:
        """The first of them."""
        return self.replicas[0] if self.replicas else None

    @property
    def ready(self) -> list[Replica]:
        return [one for one in self.replicas if one.ready_at and not one.remove_asked_at]

    @property
    def starting(self) -> list[Replica]:
        return [one for one in self.replicas if not one.ready_at and not one.remove_asked_at]

    @property
    def ending(self) -> list[Replica]:
        return [one for one in self.replicas if one.remove_asked_at]

    @property
    def next_step(self) -> tuple[Step, str] | None:
        """What to do about a failure: which button, and why."""
        if self.row.status != Status.FAILED:
            return None
        return NEXT_STEPS.get(Reason(self.row.reason), (Step.RETRY, "Look at the evidence; then start it again."))

    @property
    def per_hour(self) -> Decimal | None:
        return self.per_second * 3600 if self.per_second is not None else None

    @property
    def cost_so_far(self) -> Decimal:
        return self.cost + self.unbilled

    @property
    def is_over(self) -> bool:
        return self.row.status in SETTLED

    @property
    def is_updating(self) -> bool:
        return self.shown_status == Status.UPDATING

    @property
    def is_coming(self) -> bool:
        return self.shown_status in {Status.PENDING, Status.DOWNLOADING, Status.STARTING, Status.WAKING}

    @property
    def shown_status(self) -> str:
        return Status.STOPPING if self.row.stop_asked_at and not self.is_over else self.row.status


def in_order(team: Team) -> QuerySet[Deployment, UUID]:
    """Every deployment of the team by its pk, the live ones first."""
    over = Case(When(status__in=SETTLED, then=1), default=0)
    return Deployment.objects.of(team).order_by(over, "-created_at").values_list("pk", flat=True)


def with_costs(team: Team, pks: Sequence[UUID]) -> list[Report]:
    """These in their order, each with all that it has cost, in a fixed number of queries."""
    found = {report.row.pk: report for report in _costed(team, standing(team, pks))}
    return [found[pk] for pk in pks if pk in found]


def standing(team: Team, pks: Iterable[UUID]) -> list[Report]:
    """These as they stand, the live ones first, without what each has cost so far, which has to be summed up over all
    its life: 0 here."""
    rows = (
        Deployment.objects.of(team)
        .filter(pk__in=list(pks))
        .select_related("team", "model", "hardware", "version", "next_version")
    )
    found = _reports(rows.prefetch_related(_live_replicas(), "version__adapters"))
    return sorted(found, key=lambda report: report.is_over)


def of(deployment: Deployment) -> Report:
    rows = _alone(deployment.team, deployment.pk).prefetch_related(_live_replicas(), "version__adapters")
    return _costed(deployment.team, _reports(rows))[0]


def watched(team: Team, pk: UUID) -> Report | None:
    """For its page: without what it has cost so far, as in `standing`, and with the replicas that ended lately. None:
    the team has no such deployment."""
    rows = _alone(team, pk).prefetch_related(_shown_replicas(pk))
    return next(iter(_reports(rows)), None)


def lives(reports: Iterable[Report]) -> dict[UUID, Life]:
    """What each is billed for: a name may be used again once it is free."""
    found = {}
    for one in reports:
        row: Any = one.row
        found[row.pk] = Life(row.name, row.created_at, row.next_born, alone=row.is_first and row.next_born is None)
    return found


def mark_of(reports: Sequence[Report]) -> Mark | None:
    """How far the sums of the team's costs go, as it was read with them."""
    if not reports:
        return None
    row: Any = reports[0].row
    return sources.mark_with(row.team_id, through=row.mark_through, turn=row.mark_turn, zone=row.mark_zone)


def usual_start_s(*, hardware_slug: str) -> float | None:
    """The median of the last starts on this hardware, from process start to healthy; None without history."""
    starts = Replica.objects.filter(deployment__hardware_id=hardware_slug, ready_at__isnull=False)
    latest = starts.order_by("-created_at").values_list("started_at", "ready_at")[:20]
    seconds = sorted((ready - started).total_seconds() for started, ready in latest if started and ready)
    return seconds[len(seconds) // 2] if seconds else None


def _alone(team: Team, pk: UUID) -> QuerySet[Deployment]:
    """With how many of its starts have failed, and when somebody last asked for one."""
    rows = Deployment.objects.of(team).filter(pk=pk)
    rows = rows.select_related("team", "model", "hardware", "weights", "version", "next_version")
    return rows.annotate(failed_starts=_FAILED_STARTS, asked_at=_ASKED_AT)


def _live_replicas() -> "Prefetch[str]":
    live = Replica.objects.filter(exited_at=None).select_related("version").order_by("ordinal")
    return Prefetch("replicas", live, to_attr="shown_replicas")


def _shown_replicas(pk: UUID) -> "Prefetch[str]":
    """The live ones, those that ended within the hour, and the last that ended."""
    last = Replica.objects.filter(deployment=pk, exited_at__isnull=False).order_by("-exited_at").values("pk")
    wanted = Q(exited_at=None) | Q(exited_at__gt=timezone.now() - HOUR) | Q(pk__in=last[:ENDED_SHOWN])
    rows = Replica.objects.filter(wanted).select_related("version").order_by("ordinal", "-exited_at")
    return Prefetch("replicas", rows, to_attr="shown_replicas")


def _reports(rows: QuerySet[Deployment]) -> list[Report]:
    found = list(rows.annotate(next_born=_NEXT_BORN, is_first=~Exists(_BORN_BEFORE), **sources.WITH_MARK))
    prices = pricing.in_force({row.hardware.sku for row in found})
    turns = capacity.positions(queued) if (queued := [row.hardware_id for row in found if row.queued_at]) else {}
    return [_report(row, prices, turns.get(row.pk)) for row in found]


def _costed(team: Team, reports: list[Report]) -> list[Report]:
    costs = usage.of_lives(team, lives(reports), mark=mark_of(reports))
    return [replace(report, cost=costs.get(report.row.pk, Decimal(0))) for report in reports]


# A name may be used again once it is free: each life is billed from its own start to the next one's.
_NEXT_BORN = Subquery(
    Deployment.objects.filter(team=OuterRef("team"), name=OuterRef("name"), created_at__gt=OuterRef("created_at"))
    .order_by("created_at")
    .values("created_at")[:1]
)
_BORN_BEFORE = Deployment.objects.filter(
    team=OuterRef("team"), name=OuterRef("name"), created_at__lt=OuterRef("created_at")
)
_FAILED_STARTS = Subquery(
    Replica.objects.filter(deployment=OuterRef("pk"), crashed=True, ready_at=None)
    .order_by()
    .values("deployment")
    .annotate(count=Count("pk"))
    .values("count")
)
_ASKED_AT = Subquery(
    DeploymentEvent.objects.filter(deployment=OuterRef("pk"), after=Status.PENDING).order_by("-at").values("at")[:1]
)


def _report(row: Deployment, prices: dict[str, dict[str, Price]], turn: int | None) -> Report:
    shown: list[Replica] = row.shown_replicas  # type: ignore[attr-defined]
    replicas = tuple(one for one in shown if one.exited_at is None)
    ended = [one for one in shown if one.exited_at]
    of_hardware = prices.get(row.hardware.sku, {})
    price, failing = of_hardware.get(COMPUTE_SECONDS.name), of_hardware.get(COMPUTE_STARTING_FAILED.name)
    per_second = price.amount if price else None
    unbilled = sum((_run_up(replica, per_second) for replica in replicas), Decimal(0))
    return Report(
        row=row,
        replicas=replicas,
        per_second=per_second,
        cost=Decimal(0),
        unbilled=unbilled,
        queue_position=turn,
        failed_start_is_free=failing is None or failing.amount == 0,
        lately=tuple(sorted(ended, key=lambda one: one.exited_at or one.created_at, reverse=True)),
    )


def _run_up(replica: Replica, per_second: Decimal | None) -> Decimal:
    """What is not on the ledger yet. A start is on it once it has succeeded; until then it may still cost nothing."""
    if replica.started_at is None or replica.ready_at is None or per_second is None:
        return Decimal(0)
    since = replica.billed_until or replica.started_at
    return Slice(since, max(since, timezone.now())).seconds * per_second
