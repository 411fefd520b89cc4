"""Caps over both meters: what there is to spend, what is left of it, and what the deployments will still use."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from django.db.models import CharField, F, Func, Q, Value
from django.utils import timezone

from accounts.models import Team
from billing import periods, posting, rating
from billing.errors import BudgetSpent
from billing.models import Budget, Counter, Spend

MONTHLY, FIXED = Budget.Period.MONTHLY, Budget.Period.FIXED
# How far ahead a deployment's own use is looked at: it is put to sleep before the cap is passed, not after.
AHEAD = timedelta(minutes=3)


@dataclass(frozen=True, slots=True)
class Standing:
    """A budget at one moment, in USD: `settled` is final, `held` is what the open calls could still add, `credit`
    stands on top of the budget's own amount; `spent` is the share of it all in percent, for a bar."""

    budget: Budget
    settled: Decimal
    held: Decimal
    credit: Decimal
    period: str
    begins: datetime
    ends: datetime

    @property
    def limit(self) -> Decimal:
        return rating.add([self.budget.usd, self.credit])

    @property
    def left(self) -> Decimal:
        return max(rating.EXACT.subtract(self.limit, rating.add([self.settled, self.held])), Decimal(0))

    @property
    def percent(self) -> Decimal:
        """Of the budget's limit, what is settled; exact to two decimals, downwards."""
        return (self.settled * 100 / self.limit).quantize(Decimal("0.01"), rounding="ROUND_FLOOR")

    @property
    def share(self) -> float:
        return min(100.0, float(self.percent))

    @property
    def held_share(self) -> float:
        return min(100.0 - self.share, float(100 * self.held / self.limit))

    @property
    def is_spent(self) -> bool:
        return self.settled >= self.limit


@dataclass(frozen=True, slots=True)
class Ask:
    """Somebody wants to go on spending: what a deployment will cost in the next AHEAD, in USD."""

    team_id: UUID
    deployment_name: str
    soon: Decimal = Decimal(0)


def refused(asks: Iterable[Ask], *, now: datetime) -> dict[Ask, Standing]:
    """Those that a hard budget leaves no room for, with that budget; in two queries whatever their number."""
    asked = list(asks)
    scopes = Q(scope=Budget.Scope.TEAM) | Q(
        scope=Budget.Scope.DEPLOYMENT, subject__in={ask.deployment_name for ask in asked}
    )
    rows = Budget.objects.filter(scopes, _running(now), team__in={ask.team_id for ask in asked}, hard=True)
    found = _standings(rows.select_related("team"), now)
    tight: dict[Ask, Standing] = {}
    for ask in asked:
        mine = (one for one in found if one.budget.team_id == ask.team_id and _is_about(one.budget, ask))
        if standing := next((one for one in mine if not _has_room(one, ask.soon)), None):
            tight[ask] = standing
    return tight


def check(ask: Ask, *, now: datetime) -> None:
    """Raises BudgetSpent, in the words for whoever called, when there is no room."""
    if standing := refused([ask], now=now).get(ask):
        budget = standing.budget
        raise BudgetSpent(posting.in_words(budget.usd, budget.scope, budget.label or budget.subject, budget.period))


def standings(team: Team, *, now: datetime | None = None) -> list[Standing]:
    """All budgets of the team that are not over: the team's own first, then by what they are about."""
    moment = now or timezone.now()
    rows = team.budgets.filter(Q(period=MONTHLY) | Q(ends_at__gt=moment)).select_related("team")
    order = Budget.Scope.values
    return sorted(_standings(rows, moment), key=lambda each: (order.index(each.budget.scope), each.budget.label))


def standing_of(budget: Budget, *, now: datetime) -> Standing:
    return _standings([budget], now)[0]


def of_team(team: Team) -> Budget | None:
    """The team's own monthly budget, if it has one."""
    return Budget.objects.filter(team=team, scope=Budget.Scope.TEAM, period=MONTHLY).first()


def cap_of(team: Team) -> Decimal | None:
    budget = of_team(team)
    return budget.usd if budget else None


def key_caps(team: Team) -> dict[str, Decimal]:
    """The key's id -> its monthly budget in USD, for the keys that have one."""
    rows = Budget.objects.filter(team=team, scope=Budget.Scope.KEY, period=MONTHLY)
    return dict(rows.values_list("subject", "usd"))


def set_monthly(
    team: Team, usd: Decimal | None, *, scope: str = Budget.Scope.TEAM, subject: str = "", label: str = ""
) -> None:
    """The monthly budget of this scope is `usd` from now on; None: it has none."""
    rows = Budget.objects.filter(team=team, scope=scope, subject=subject, period=MONTHLY)
    if usd is None:
        rows.delete()
        return
    Budget.objects.update_or_create(
        team=team, scope=scope, subject=subject, period=MONTHLY, defaults={"usd": usd, "label": label}
    )


def period_of(budget: Budget, *, now: datetime) -> tuple[str, datetime, datetime]:
    """The name of the counter's period, and from when until when it counts."""
    if budget.period == FIXED:
        assert budget.starts_at is not None and budget.ends_at is not None  # noqa: S101, PT018 - the database says so
        return f"budget {budget.pk}", budget.starts_at, budget.ends_at
    month = periods.month_at(now, budget.team.time_zone)
    return month.first.isoformat(), month.begins, month.ends


def burn_until(per_second: Decimal, *, now: datetime, ends: datetime) -> Decimal:
    """What something costs that runs from now to then: the committed part of a forecast, to the second."""
    seconds = Decimal(max(int((ends - now).total_seconds()), 0))
    return rating.EXACT.multiply(per_second, seconds)


def _running(now: datetime) -> Q:
    return Q(period=MONTHLY) | Q(starts_at__lte=now, ends_at__gt=now)


def _is_about(budget: Budget, ask: Ask) -> bool:
    return budget.scope == Budget.Scope.TEAM or budget.subject == ask.deployment_name


def _has_room(standing: Standing, soon: Decimal) -> bool:
    return rating.add([standing.settled, standing.held, soon]) <= standing.limit and not standing.is_spent


def _standings(rows: Iterable[Budget], now: datetime) -> list[Standing]:
    """Each with its counter, in two queries whatever their number."""
    found = list(rows)
    spans = {row.pk: period_of(row, now=now) for row in found}
    names = {span[0] for span in spans.values()}
    teams = {row.team_id for row in found}
    counters = _counters(teams, names) if found else {}
    standings = []
    for row in found:
        period, begins, ends = spans[row.pk]
        key = (row.team_id, row.scope, row.subject, period)
        settled, held = counters.get(key, (Decimal(0), Decimal(0)))
        credit = Decimal(0) if row.credit_until and row.credit_until <= now else row.credit_usd
        standings.append(Standing(row, settled, held, credit, period, begins, ends))
    return standings


# A month as counters name it.
_DAY = Func(F("month"), Value("YYYY-MM-DD"), function="to_char", output_field=CharField())


def _counters(teams: set[UUID], periods_named: set[str]) -> dict[tuple[UUID, str, str, str], tuple[Decimal, Decimal]]:
    """(team, scope, subject, period) -> what is settled and held; a team's own months have a table of their own."""
    columns = ("team_id", "counted", "about", "named", "settled", "held")
    months = [name for name in periods_named if not name.startswith("budget")]
    own = Spend.objects.filter(team__in=teams, month__in=months).annotate(
        counted=Value(Budget.Scope.TEAM.value), about=Value(""), named=_DAY
    )
    others = Counter.objects.filter(team__in=teams, period__in=periods_named).annotate(
        counted=F("scope"), about=F("subject"), named=F("period")
    )
    rows = others.order_by().values_list(*columns).union(own.order_by().values_list(*columns), all=True)
    return {(team, scope, subject, period): (settled, held) for team, scope, subject, period, settled, held in rows}
