"""What a team's deployments cost whatever is called: the replicas that are kept awake, at the prices in force."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from django.db.models import QuerySet

from accounts.models import Team
from billing import pricing, rating
from billing.errors import NoPrice
from billing.meters import COMPUTE_SECONDS
from deployments.lifecycle import Reason, Status
from deployments.models import Deployment

# Nothing is kept awake in these.
_AT_REST = (Status.FAILED, Status.STOPPING, Status.STOPPED)


@dataclass(frozen=True, slots=True)
class Burn:
    """USD a second that a deployment costs for `replicas` that never sleep."""

    deployment: str
    replicas: int
    per_second: Decimal

    @property
    def per_hour(self) -> Decimal:
        return rating.EXACT.multiply(self.per_second, Decimal(3600))


def burns(team: Team) -> list[Burn]:
    """The team's deployments that are to have at least one replica awake."""
    kept = _kept(Deployment.objects.unsettled().of(team)).order_by("name")
    return [burn for row in kept if (burn := _burn(row)) is not None]


def per_second_by_team(teams: Sequence[Team]) -> dict[UUID, Decimal]:
    """The same for several teams, by the team's id and without prices by deployment: in three queries at most."""
    rows = list(_kept(Deployment.objects.unsettled().filter(team__in=teams)))
    prices = pricing.in_force({row.hardware.sku for row in rows}) if rows else {}
    discounts = pricing.discounts({row.team_id for row in rows}) if rows else {}
    found: dict[UUID, Decimal] = {}
    for row in rows:
        listed = prices.get(row.hardware.sku, {}).get(COMPUTE_SECONDS.name)
        if listed is not None:
            percent = pricing.fitting(discounts.get(row.team_id, []), row.hardware.sku)
            named = {COMPUTE_SECONDS.name: listed.amount} | ({rating.DISCOUNT: percent} if percent else {})
            second = rating.total(rating.rate({COMPUTE_SECONDS.name: Decimal(row.min_replicas)}, named))
            found[row.team_id] = rating.add([found.get(row.team_id, Decimal(0)), second])
    return found


def per_second(found: Iterable[Burn]) -> Decimal:
    return rating.add(burn.per_second for burn in found)


def _kept(rows: QuerySet[Deployment]) -> QuerySet[Deployment]:
    kept = rows.filter(min_replicas__gt=0, stop_asked_at=None).exclude(status__in=_AT_REST)
    return kept.exclude(status=Status.ASLEEP, reason=Reason.BUDGET_SPENT).select_related("hardware")


def _burn(row: Deployment) -> Burn | None:
    try:
        prices = pricing.prices_at(row.hardware.sku, team_id=row.team_id)
    except NoPrice:
        return None
    second = rating.total(rating.rate({COMPUTE_SECONDS.name: Decimal(1)}, prices))
    return Burn(row.name, row.min_replicas, rating.EXACT.multiply(second, Decimal(row.min_replicas)))
