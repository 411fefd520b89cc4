"""The costs page and the monthly CSV."""

from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal

from django.contrib import messages
from django.db.models import Sum
from django.http import Http404, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from accounts import audit
from accounts.http import TeamRequest, team_required
from accounts.models import Role, Team
from billing import budgets, charts, downloads, parquet, periods, scope, statements, usage
from billing.errors import BadMonth, NoParquet
from billing.forms import BudgetForm
from billing.meters import METERS
from billing.models import Invoice, Reservation, UsageEvent
from billing.statements import FORMATS, Row

KEEPERS = {Role.OWNER, Role.ADMIN, Role.BILLING}


@dataclass(slots=True)
class Line:
    """One row of the page's table: the month of one thing and one meter."""

    label: str
    path: str
    meter: str
    unit_price: Decimal
    quantity: Decimal = field(default=Decimal(0))
    cost: Decimal = field(default=Decimal(0))

    @property
    def meter_label(self) -> str:
        return METERS[self.meter].label if self.meter in METERS else self.meter or "Credit"

    @property
    def quoted(self) -> Decimal:
        """The price as people quote it: per million tokens, per hour."""
        return self.unit_price * (METERS[self.meter].per if self.meter in METERS else 1)

    @property
    def quoted_per(self) -> str:
        unit = METERS[self.meter].unit if self.meter in METERS else "unit"
        return {"token": "M", "second": "h"}.get(unit, unit)


@require_safe
@team_required
def costs(request: TeamRequest) -> HttpResponse:
    current = periods.month_at(timezone.now(), request.team.time_zone)
    month = _month(request, request.GET.get("month") or str(current))
    split = request.GET.get("split", "model")
    split = split if split in charts.SPLITS else "model"
    rows = list(statements.rows(request.team, month))
    cost = statements.total(rows)
    by_path = {path: statements.total(row for row in rows if row.path == path) for path in ("hosted", "serverless", "")}
    budget = budgets.of_team(request.team)
    events = UsageEvent.objects.filter(team=request.team, started_at__gte=month.begins, started_at__lt=month.ends)
    context = {
        "month": month,
        "is_current": month == current,
        "after": month.after if month.first < current.first else None,
        "splits": charts.SPLITS.items(),
        "split": split,
        "lines": _lines(rows, split),
        "cost": cost,
        "hosted": by_path["hosted"],
        "serverless": by_path["serverless"],
        "credited": by_path[""],
        "late": [row for row in rows if row.day < month.first],
        "late_cost": statements.total(row for row in rows if row.day < month.first),
        "invoice": Invoice.objects.filter(team=request.team, month=month.first).first(),
        "figure": charts.by_day(rows, month, split=split) if rows else None,
        "estimated": events.filter(quality="estimated").count(),
        "in_flight": Reservation.objects.filter(team=request.team, state=Reservation.State.OPEN).count(),
        "budget": budget,
        "budget_share": min(100, float(100 * cost / budget.usd)) if budget else 0,
        "budget_form": BudgetForm(initial={"monthly_usd": budget.usd if budget else None}),
        "may_keep": request.membership.role in KEEPERS,
        "before_cost": _month_cost(request.team, month.before),
        "parquet": parquet.installed(),
        "base_url": request.build_absolute_uri("/v1"),
    }
    return render(request, "billing/costs.html", context)


@require_safe
@team_required
def statement(request: TeamRequest, month: str, ending: str) -> HttpResponseBase:
    """The month's file: plain, detail or focus as CSV, or the detail as Parquet."""
    wanted = _month(request, month)
    default = "parquet" if ending == "parquet" else "plain"
    found = FORMATS.get(request.GET.get("format", default))
    if found is None or found.ending != ending:
        raise Http404(f"no such format: use one of {', '.join(FORMATS)}")
    try:
        return downloads.answer(request, scope.of(request.team, wanted), found)
    except NoParquet as error:
        messages.error(request, str(error))
        return redirect(f"{reverse('costs')}?month={wanted}")


@require_POST
@team_required
def budget_set(request: TeamRequest) -> HttpResponse:
    if request.membership.role not in KEEPERS:
        return render(request, "403.html", {"reason": "Your role may not change the budget."}, status=403)
    form = BudgetForm(request.POST)
    if not form.is_valid():
        messages.error(request, f"The budget was not changed: {form.errors['monthly_usd'][0]}")
        return redirect("costs")
    amount = form.cleaned_data["monthly_usd"]
    before = {"monthly usd": budgets.cap_of(request.team)}
    budgets.set_monthly(request.team, amount)
    audit.record(
        request.team, actor=request.user.email, verb="set the budget to", subject=str(amount or "none"), before=before,
        after={"monthly usd": amount},
    )  # fmt: skip
    messages.success(request, "The budget is set." if amount is not None else "No budget caps the month now.")
    return redirect("costs")


def _month(request: TeamRequest, text: str) -> periods.Month:
    try:
        return periods.month_named(text, request.team.time_zone)
    except BadMonth as error:
        raise Http404(str(error)) from error


def _lines(rows: list[Row], split: str) -> list[Line]:
    lines: dict[tuple[str, ...], Line] = {}
    for row in rows:
        label = charts.label_of(row, split)
        key = (label, row.path, row.meter, str(row.unit_price))
        line = lines.setdefault(key, Line(label, row.path, row.meter, row.unit_price))
        line.quantity += row.quantity
        line.cost += row.cost
    totals: dict[str, Decimal] = defaultdict(Decimal)
    for line in lines.values():
        totals[line.label] += line.cost
    return sorted(lines.values(), key=lambda line: (-totals[line.label], line.label, line.path, line.meter))


def _month_cost(team: Team, month: periods.Month) -> Decimal:
    found = usage.entries(team, month.begins, month.ends).aggregate(cost=Sum("amount"))["cost"]
    return found or Decimal(0)
