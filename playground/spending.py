"""The team's money at a glance: what the chat page shows as a bar."""

from decimal import Decimal
from typing import Any

from django.utils import timezone

from accounts.models import Team
from billing import budgets, periods
from billing.models import Budget, Spend
from catalog.templatetags.money import usd


def at_a_glance(team: Team) -> dict[str, Any]:
    """The team's first budget that is running, with shares in percent; without one what the month has cost."""
    running = (one for one in budgets.standings(team) if one.budget.scope == Budget.Scope.TEAM)
    if standing := next(running, None):
        return {
            "spent": usd(standing.settled),
            "exact": f"{standing.settled:f}",
            "limit": usd(standing.limit),
            "share": round(standing.share, 2),
            "held_share": round(standing.held_share, 2),
            "is_spent": standing.is_spent and standing.budget.hard,
        }
    month = periods.month_at(timezone.now(), team.time_zone).first
    total = Spend.objects.filter(team=team, month=month).values_list("settled", flat=True).first() or Decimal(0)
    return {"spent": usd(total), "exact": f"{total:f}", "limit": "", "share": 0, "held_share": 0, "is_spent": False}
