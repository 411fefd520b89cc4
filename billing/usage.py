"""Questions about the ledger that pages ask. Every answer is an exact sum of ledger rows."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from django.db.models import Q, Sum
from django.utils import timezone

from accounts.models import Team
from billing.errors import BadMonth
from billing.models import LedgerEntry


@dataclass(frozen=True, slots=True)
class Spent:
    """USD over a span of time, split by path."""

    hosted: Decimal
    serverless: Decimal

    @property
    def total(self) -> Decimal:
        return self.hosted + self.serverless


@dataclass(frozen=True, slots=True)
class Month:
    """A calendar month in a team's time zone: [begin, end) as aware moments."""

    first: date
    begin: datetime
    end: datetime

    def __str__(self) -> str:
        return f"{self.first:%Y-%m}"


def today(team: Team) -> Spent:
    zone = ZoneInfo(team.time_zone)
    begin = datetime.combine(timezone.now().astimezone(zone).date(), time.min, zone)
    return spent_between(team, begin=begin, end=begin + timedelta(days=2))


def month(team: Team, *, of: Month | None = None) -> Spent:
    """What the month (this one by default) has cost so far."""
    span = of or this_month(team)
    return spent_between(team, begin=span.begin, end=span.end)


def spent_between(team: Team, *, begin: datetime, end: datetime) -> Spent:
    rows = dict(
        LedgerEntry.objects.filter(team=team, at__gte=begin, at__lt=end)
        .order_by()
        .values_list("path")
        .annotate(Sum("amount"))
    )
    return Spent(hosted=rows.get("hosted") or Decimal(0), serverless=rows.get("serverless") or Decimal(0))


def cost_of(team: Team, *, deployment_name: str, since: datetime | None = None) -> Decimal:
    """Everything that a deployment's replicas and calls were billed, from `since` on (a name may be used again)."""
    return costs_of(team, deployment_names=[deployment_name], since=since).get(deployment_name, Decimal(0))


def costs_of(team: Team, *, deployment_names: Iterable[str], since: datetime | None = None) -> dict[str, Decimal]:
    """The same for many deployments in one query."""
    after = Q(at__gte=since) if since else Q()
    rows = LedgerEntry.objects.filter(after, team=team, deployment_name__in=list(deployment_names)).order_by()
    return dict(rows.values_list("deployment_name").annotate(Sum("amount")))


def this_month(team: Team) -> Month:
    return month_starting(team, timezone.now().astimezone(ZoneInfo(team.time_zone)).date().replace(day=1))


def month_named(team: Team, text: str) -> Month:
    """The month written YYYY-MM; BadMonth for anything else."""
    try:
        first = datetime.strptime(text, "%Y-%m").date()  # noqa: DTZ007 - a month has no zone
    except ValueError as error:
        raise BadMonth(f"{text!r} is no month: write it as 2026-11") from error
    if f"{first:%Y-%m}" != text:
        raise BadMonth(f"{text!r} is no month: write it as 2026-11")
    return month_starting(team, first)


def month_starting(team: Team, first: date) -> Month:
    zone = ZoneInfo(team.time_zone)
    following = (first + timedelta(days=32)).replace(day=1)
    return Month(first, datetime.combine(first, time.min, zone), datetime.combine(following, time.min, zone))
