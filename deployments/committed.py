"""What a team's deployments cost whatever is called: the replicas that are kept awake, at the prices in force."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

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
    rows = Deployment.objects.unsettled().of(team).filter(min_replicas__gt=0, stop_asked_at=None)
    kept = rows.exclude(status__in=_AT_REST).exclude(status=Status.ASLEEP, reason=Reason.BUDGET_SPENT)
    return [burn for row in kept.select_related("hardware").order_by("name") if (burn := _burn(row)) is not None]


def per_second(found: Iterable[Burn]) -> Decimal:
    return rating.add(burn.per_second for burn in found)


def _burn(row: Deployment) -> Burn | None:
    try:
        prices = pricing.prices_at(row.hardware.sku, team_id=row.team_id)
    except NoPrice:
        return None
    second = rating.total(rating.rate({COMPUTE_SECONDS.name: Decimal(1)}, prices))
    return Burn(row.name, row.min_replicas, rating.EXACT.multiply(second, Decimal(row.min_replicas)))
