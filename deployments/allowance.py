"""A team's quotas of deployments and replicas, asked before something is deployed or may grow.

What counts for a hardware is how many replicas the deployments on it may grow to, together: so never more are awake.
A version that is tried in an update stands beside them for that time.
"""

from django.db.models import Count, Sum

from accounts import quotas
from accounts.errors import QuotaReached
from accounts.models import Quota, Team
from catalog.models import Hardware
from deployments.errors import BadOption, NotDeployable
from deployments.models import Deployment

What = Quota.What
ADVICE = {
    What.DEPLOYMENTS: "Or stop one that nobody needs.",
    What.REPLICAS: (
        "What counts is the most replicas that each may have (max_replicas), awake or asleep: lower that of this one "
        "or of another on this hardware, or stop one that nobody needs."
    ),
}


def check_new(team: Team, hardware: Hardware, *, max_replicas: int) -> None:
    """Inside a transaction. Raises NotDeployable where a quota of the team would be passed."""
    live = Deployment.objects.unsettled().of(team)
    try:
        quotas.check(team, What.DEPLOYMENTS, used=live.count)
        quotas.check(
            team, What.REPLICAS, of=hardware.pk, adding=max_replicas, used=lambda: _replicas(team, hardware.pk)
        )
    except QuotaReached as error:
        raise NotDeployable(f"{error} {ADVICE[What(error.what)]}") from error


def check_growth(deployment: Deployment, *, max_replicas: int) -> None:
    """Inside a transaction. Raises BadOption where the team's quota of replicas on its hardware would be passed."""
    team, hardware = deployment.team, deployment.hardware_id
    adding = max_replicas - deployment.max_replicas
    if adding <= 0:
        return
    try:
        quotas.check(team, What.REPLICAS, of=hardware, adding=adding, used=lambda: _replicas(team, hardware))
    except QuotaReached as error:
        raise BadOption("max_replicas", f"{error} {ADVICE[What.REPLICAS]}") from error


def used(team: Team) -> quotas.Uses:
    """For the team's page; in one query."""
    rows = (
        Deployment.objects.unsettled().of(team).values("hardware").annotate(count=Count("pk"), most=Sum("max_replicas"))
    )
    counted = list(rows.order_by("hardware"))
    found = {(str(What.REPLICAS), row["hardware"]): row["most"] for row in counted}
    return found | {(str(What.DEPLOYMENTS), ""): sum(row["count"] for row in counted)}


def _replicas(team: Team, hardware: str) -> int:
    rows = Deployment.objects.unsettled().of(team).filter(hardware=hardware)
    return rows.aggregate(most=Sum("max_replicas"))["most"] or 0
