"""The team's budgets, credits and alerts. They stand here because a budget may be about what any floor knows."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import audit
from accounts.http import TeamRequest, team_required
from accounts.roles import KEEPERS
from billing import alerting, budgets, credits
from billing.budgets import Standing
from billing.models import AlertSettings, Budget, Delivery
from deployments import committed
from deployments.committed import Burn
from gateway.budget_forms import AlertsForm, BudgetForm

SHOWN_DELIVERIES = 8


@dataclass(frozen=True, slots=True)
class Line:
    """A budget with what deployments that never sleep will still add to it before it ends."""

    standing: Standing
    committed: Decimal

    @property
    def committed_share(self) -> float:
        room = 100.0 - self.standing.share - self.standing.held_share
        return max(0.0, min(room, float(100 * self.committed / self.standing.limit)))

    @property
    def will_pass(self) -> bool:
        return self.committed > self.standing.left


def said(row: Budget | None) -> dict[str, Any]:
    """A budget for the audit trail."""
    if row is None:
        return {}
    return {"usd": f"{row.usd:f}", "period": row.period, "stops calls": row.hard, "alerts at": row.alert_percents}


def _alerts_said(row: AlertSettings | None) -> dict[str, Any]:
    """For the audit trail: of the webhook its host alone, for its path may be a secret."""
    if row is None:
        return {}
    return {"emails": row.emails, "webhook": urlsplit(row.webhook_url).hostname or ""}


@require_safe
@team_required
def budget_list(request: TeamRequest) -> HttpResponse:
    return _page(request)


@team_required
@require_http_methods(["GET", "POST"])
def budget_edit(request: TeamRequest, pk: int | None = None) -> HttpResponse:
    """A new budget, or another amount for one. A gateway holds calls against it from its next statement on."""
    if request.membership.role not in KEEPERS:
        return _forbidden(request)
    row = get_object_or_404(Budget, team=request.team, pk=pk) if pk else None
    form = BudgetForm(request.POST or None, team=request.team, budget=row)
    before = said(row)
    if request.method == "POST" and form.is_valid():
        saved = form.save()
        credits.refresh(request.team, now=timezone.now())
        audit.record(
            request.team, actor=request.user.email, verb="set the budget", subject=str(saved), before=before,
            after=said(saved),
        )  # fmt: skip
        messages.success(request, f"The budget for {saved.whose} is ${saved.usd:,} {saved.how_long}, from now on.")
        return redirect("budget-list")
    failed = request.method == "POST"
    return render(request, "gateway/budget.html", {"form": form, "budget": row}, status=400 if failed else 200)


@require_POST
@team_required
def budget_delete(request: TeamRequest, pk: int) -> HttpResponse:
    row = get_object_or_404(Budget, team=request.team, pk=pk)
    if request.membership.role not in KEEPERS:
        return _forbidden(request)
    audit.record(request.team, actor=request.user.email, verb="deleted the budget", subject=str(row), before=said(row))
    messages.success(request, f"The budget for {row.whose} is gone: nothing is held against it any more.")
    row.delete()
    return redirect("budget-list")


@require_POST
@team_required
def alerts_set(request: TeamRequest) -> HttpResponse:
    """Who hears of the budgets; a new webhook gets a secret, shown this once."""
    if request.membership.role not in KEEPERS:
        return _forbidden(request)
    settings = AlertSettings.objects.filter(team=request.team).first()
    form = AlertsForm.of(settings, request.POST)
    if not form.is_valid():
        return _page(request, alerts=form, status=400)
    saved, _ = AlertSettings.objects.update_or_create(team=request.team, defaults=form.cleaned_data)
    audit.record(
        request.team, actor=request.user.email, verb="changed the alerts", subject="of budgets",
        before=_alerts_said(settings), after=_alerts_said(saved),
    )  # fmt: skip
    messages.success(request, "Alerts are saved.")
    if form.cleaned_data["webhook_url"] and not (settings and settings.sealed_secret):
        return _page(request, secret=alerting.new_secret(request.team))
    return redirect("budget-list")


@require_POST
@team_required
def alerts_secret(request: TeamRequest) -> HttpResponse:
    if request.membership.role not in KEEPERS:
        return _forbidden(request)
    audit.record(request.team, actor=request.user.email, verb="made a new secret", subject="of the alerts' webhook")
    return _page(request, secret=alerting.new_secret(request.team))


@require_POST
@team_required
def alerts_test(request: TeamRequest) -> HttpResponse:
    """Send a test to every address now; what came of each is said."""
    if request.membership.role not in KEEPERS:
        return _forbidden(request)
    for row in alerting.test(request.team):
        tell = messages.success if row.delivered_at else messages.error
        tell(request, f"{row.address}: {row.outcome}")
    return redirect("budget-list")


def _page(
    request: TeamRequest, *, alerts: AlertsForm | None = None, secret: str = "", status: int = 200
) -> HttpResponse:
    now, team = timezone.now(), request.team
    burns = committed.burns(team)
    settings = AlertSettings.objects.filter(team=team).first()
    context = {
        "lines": [_line(standing, burns) for standing in budgets.standings(team, now=now)],
        "burns": burns,
        "burn_per_hour": sum((burn.per_hour for burn in burns), Decimal(0)),
        "credits": [one for one in credits.balances(team) if one.left or one.grant.expires_at is None],
        "now": now,
        "may_keep": request.membership.role in KEEPERS,
        "alerts": alerts or AlertsForm.of(settings),
        "settings": settings,
        "secret": secret,
        "recipients": alerting.recipients(team, settings),
        "deliveries": Delivery.objects.filter(team=team)[:SHOWN_DELIVERIES],
    }
    answer = render(request, "gateway/budgets.html", context, status=status)
    if secret:
        answer.headers["cache-control"] = "no-store"
    return answer


def _line(standing: Standing, burns: list[Burn]) -> Line:
    budget, now = standing.budget, timezone.now()
    mine = [burn for burn in burns if budget.scope == Budget.Scope.TEAM or _is_about(budget, burn)]
    rate = committed.per_second(mine)
    return Line(standing, budgets.burn_until(rate, now=max(now, standing.begins), ends=standing.ends))


def _is_about(budget: Budget, burn: Burn) -> bool:
    return budget.scope == Budget.Scope.DEPLOYMENT and budget.subject == burn.deployment


def _forbidden(request: TeamRequest) -> HttpResponse:
    reason = "Your role in this team may look at budgets, not change them."
    return render(request, "403.html", {"reason": reason}, status=403)
