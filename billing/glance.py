"""The month at a glance: what is spent, what it will be at its end, what the budget leaves, and how it was before."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.utils.module_loading import import_string

from accounts.models import Team
from billing import costs, forecasting, periods, rating
from billing.costs import Reading, Standing
from billing.forecasting import DayCost, Forecast
from billing.models import Budget, Reservation, UsageEvent

DAY_S = 24 * 3600
ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Change:
    """From `before` to `now`, in USD."""

    before: Decimal
    now: Decimal

    @property
    def words(self) -> str:
        """`12 % more than`, `8 % less than`, `3.4 times`, `as much as`."""
        if self.before <= 0:
            return "more than" if self.now > self.before else "as much as"
        if self.now >= 3 * self.before:
            return f"{self.now / self.before:.1f} times"
        percent = round(100 * abs(self.now - self.before) / self.before)
        if not percent:
            return "about as much as"
        return f"{percent} % {'more' if self.now > self.before else 'less'} than"


@dataclass(frozen=True, slots=True)
class Facts:
    """What else a page says of a team: its monthly budget with the credit on top, the events of the question's days
    that are estimated, and the calls that are in flight now."""

    budget: Decimal | None
    hard: bool
    credit: Decimal
    estimated: int
    in_flight: int

    @property
    def limit(self) -> Decimal | None:
        return None if self.budget is None else rating.add([self.budget, self.credit])


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """One team's, or several teams' together (`team` is None then). USD. `spent` is before credits; `whole` compares
    with all of the time before (the forecast, where there is one), `so_far` the whole days of both until yesterday.
    `limit` is the budget with the `credit` on top."""

    team: Team | None
    spent: DayCost
    forecast: Forecast | None
    limit: Decimal | None = None
    credit: Decimal = ZERO
    hard: bool = False
    runs_out: date | None = None
    whole: Change
    so_far: Change | None

    @property
    def left(self) -> Decimal | None:
        return None if self.limit is None else self.limit - (self.forecast.usd if self.forecast else self.spent.total)

    @property
    def scale(self) -> Decimal:
        """The whole width of the bar, in USD."""
        return max(self.limit or ZERO, self.forecast.usd if self.forecast else ZERO, self.spent.total, Decimal("1e-18"))

    @property
    def hosted_share(self) -> float:
        return self._share(self.spent.hosted)

    @property
    def serverless_share(self) -> float:
        return self._share(self.spent.serverless)

    @property
    def coming_share(self) -> float:
        return self._share(self.forecast.usd - self.forecast.spent) if self.forecast else 0.0

    @property
    def limit_share(self) -> float:
        """Where the budget's mark stands."""
        return self._share(self.limit or ZERO)

    @property
    def percent(self) -> Decimal | None:
        """Of the budget, what is spent; downwards."""
        return None if not self.limit else (100 * self.spent.total // self.limit)

    def _share(self, part: Decimal) -> float:
        return max(0.0, min(100.0, float(100 * part / self.scale)))


def each(
    standing: Standing, facts: Mapping[str, Facts], spent: Mapping[str, DayCost], *, now: datetime
) -> list[Glance]:
    """Every team's, the one that spends most before the others."""
    first, last = _reach(standing)
    days = costs.history(standing, first, last)
    current = _is_current(standing, now)
    burns = _committed(standing.teams) if current and not standing.question.filtered else {}
    found = [
        _glance(
            standing, team, spent[team.slug], days[team.slug], facts[team.slug],
            burn=burns.get(team.pk, ZERO), current=current, now=now,
        )
        for team in standing.teams
    ]  # fmt: skip
    return sorted(found, key=lambda one: (-one.spent.total, one.team.name if one.team else ""))


def together(found: list[Glance]) -> Glance:
    """The sum of them. No budget is shared by teams."""
    forecasts = [one.forecast for one in found if one.forecast]
    summed = Forecast(
        spent=rating.add(one.spent for one in forecasts),
        rest_of_today=sum((one.rest_of_today for one in forecasts), ZERO),
        coming=sum((one.coming for one in forecasts), ZERO),
        committed=sum((one.committed for one in forecasts), ZERO),
        seen_days=max((one.seen_days for one in forecasts), default=0),
    )
    spent = DayCost(rating.add(one.spent.hosted for one in found), rating.add(one.spent.serverless for one in found))
    return Glance(
        team=None,
        spent=spent,
        forecast=summed if forecasts else None,
        whole=_summed([one.whole for one in found]),
        so_far=_summed([one.so_far for one in found if one.so_far]) if any(one.so_far for one in found) else None,
    )


def facts_of(standing: Standing, *, now: datetime) -> dict[str, Facts]:
    """By the team's slug, in one query whatever their number."""
    question = standing.question
    own = Budget.objects.filter(team=OuterRef("pk"), scope=Budget.Scope.TEAM, period=Budget.Period.MONTHLY)
    named = {name: text for name, text in standing.asked.filters.items() if name != "meter"}  # an event has several
    events = UsageEvent.objects.filter(
        team=OuterRef("pk"), started_at__gte=question.begins, started_at__lt=question.ends, quality="estimated", **named
    )
    calls = Reservation.objects.filter(team=OuterRef("pk"), state=Reservation.State.OPEN)
    rows = Team.objects.filter(pk__in=[team.pk for team in standing.teams]).values_list(
        "slug", Subquery(own.values("usd")), Subquery(own.values("hard")), Subquery(own.values("credit_usd")),
        Subquery(own.values("credit_until")), Subquery(_counted(events)), Subquery(_counted(calls)),
    )  # fmt: skip
    return {
        slug: Facts(
            usd, bool(hard), (credit or ZERO) if until is None or until > now else ZERO, estimated or 0, many or 0
        )
        for slug, usd, hard, credit, until, estimated, many in rows
    }


def spent_of(standing: Standing, reading: Reading) -> dict[str, DayCost]:
    """What each team's statement comes to before credits; read off what is known already where that is possible."""
    if len(standing.teams) != 1 or reading.corrected:
        return costs.spent_by(standing)
    return {standing.teams[0].slug: DayCost(reading.hosted, reading.serverless)}


def _reach(standing: Standing) -> tuple[date, date]:
    """The days that a comparison looks at: the month before, or as many days before as are asked for."""
    question = standing.question
    if question.month is not None:
        return question.month.before.first, question.last
    return question.first - timedelta(days=question.days), question.last


def _is_current(standing: Standing, now: datetime) -> bool:
    month = standing.question.month
    return month is not None and month.begins <= now < month.ends


def _glance(
    standing: Standing,
    team: Team,
    spent: DayCost,
    days: Mapping[date, DayCost],
    facts: Facts,
    *,
    burn: Decimal,
    current: bool,
    now: datetime,
) -> Glance:
    question = standing.question
    zone = periods.zone_of(team.time_zone if question.month else question.zone)
    today = now.astimezone(zone).date()
    before, before_day = _before(standing, days), question.first - timedelta(days=1)
    if not current:
        return Glance(team=team, spent=spent, forecast=None, whole=Change(before, spent.total), so_far=None)
    tomorrow = periods.start_of_day(today + timedelta(days=1), zone.key)
    rule: dict[str, Any] = {"today": today, "last": question.last, "committed_per_day": burn * DAY_S}
    left_of_today = Decimal(int((tomorrow - now).total_seconds())) / DAY_S
    forecast = forecasting.of_month(days, spent=spent.total, left_of_today=left_of_today, **rule)
    limit = None if question.filtered else facts.limit
    left = None if limit is None else limit - spent.total
    first_then, yesterday = before_day.replace(day=1), today - timedelta(days=1)
    same_day = min(first_then + (yesterday - question.first), before_day)
    so_far = Change(_sum(days, first_then, same_day), _sum(days, question.first, yesterday))
    return Glance(
        team=team,
        spent=spent,
        forecast=forecast,
        limit=limit,
        credit=facts.credit,
        hard=facts.hard,
        runs_out=forecasting.runs_out_on(days, left=left, **rule) if left is not None and left > 0 else None,
        whole=Change(before, forecast.usd if forecast else spent.total),
        so_far=so_far if today > question.first else None,
    )


def _before(standing: Standing, days: Mapping[date, DayCost]) -> Decimal:
    first, _ = _reach(standing)
    return _sum(days, first, standing.question.first - timedelta(days=1))


def _sum(days: Mapping[date, DayCost], first: date, last: date) -> Decimal:
    return rating.add(cost.total for day, cost in days.items() if first <= day <= last)


def _summed(changes: list[Change]) -> Change:
    return Change(rating.add(one.before for one in changes), sum((one.now for one in changes), ZERO))


def _committed(teams: tuple[Team, ...]) -> Mapping[UUID, Decimal]:
    """USD a second that the teams' replicas cost which never sleep: those who run them know."""
    if not settings.COMMITTED_BURN:
        return {}
    ask: Callable[[tuple[Team, ...]], Mapping[UUID, Decimal]] = import_string(settings.COMMITTED_BURN)
    return ask(teams)


def _counted(rows: QuerySet[UsageEvent] | QuerySet[Reservation]) -> QuerySet[UsageEvent] | QuerySet[Reservation]:
    return rows.order_by().values("team").annotate(many=Count("pk")).values("many")  # type: ignore[return-value]
