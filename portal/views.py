"""The home page: what runs, what it costs, what needs attention, and the first steps of a new team."""

from dataclasses import dataclass
from decimal import Decimal

from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from accounts.http import TeamRequest, team_required
from accounts.models import Team
from billing import budgets, pricing, usage
from billing.models import LedgerEntry, Price
from deployments.lifecycle import Status
from deployments.models import Deployment


@dataclass(frozen=True, slots=True)
class Step:
    """One of a new team's first steps; `done` is looked up, never remembered."""

    text: str
    where: str
    done: bool


@require_safe
@team_required
def home(request: TeamRequest) -> HttpResponse:
    team = request.team
    live = list(Deployment.objects.unsettled().of(team).select_related("model", "hardware"))
    prices = pricing.in_force({row.hardware.sku for row in live})
    month = usage.month(team)
    budget = budgets.of_team(team)
    steps = _first_steps(team, has_live=bool(live))
    context = {
        "live": [(row, _hourly(row, prices)) for row in live],
        "failed": [row for row in live if row.status == Status.FAILED],
        "today": usage.today(team),
        "month": month,
        "budget": budget,
        "shares": _shares(month.hosted, month.serverless, budget.usd if budget else month.total),
        "steps": steps,
        "all_done": all(step.done for step in steps),
        "base_url": request.build_absolute_uri("/v1"),
    }
    return render(request, "portal/home.html", context)


def _hourly(row: Deployment, prices: dict[str, dict[str, Price]]) -> Decimal | None:
    price = prices.get(row.hardware.sku, {}).get("compute.seconds")
    return price.amount * 3600 if price else None


def _shares(hosted: Decimal, serverless: Decimal, whole: Decimal) -> tuple[float, float]:
    """Percent of the bar for each path: a drawing, not money."""
    if not whole:
        return (0.0, 0.0)
    return (min(100.0, float(100 * hosted / whole)), min(100.0, float(100 * serverless / whole)))


def _first_steps(team: Team, *, has_live: bool) -> list[Step]:
    entries = LedgerEntry.objects.filter(team=team)
    deployed = has_live or team.deployments.exists()
    small = reverse("deploy-new") + "?model=smollm2-135m-instruct"
    return [
        Step("Make an API key", reverse("keys"), team.api_keys.filter(revoked_at=None).exists()),
        Step("Deploy an open-weight model", small, deployed),
        Step(
            "Try a prompt in the playground", reverse("playground"), entries.filter(api_key_name="playground").exists()
        ),
        Step(
            "Call a model from a program",
            reverse("keys"),
            entries.exclude(api_key_name__in=["", "playground"]).exists(),
        ),
        Step("See what it cost", reverse("costs"), entries.exists()),
    ]
