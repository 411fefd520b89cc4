"""What was spent, straight from the ledger: exact sums for pages and other apps."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import connection
from django.db.models import Max, Q, QuerySet, Sum
from django.utils import timezone

from accounts.models import Team
from billing import budgets, periods
from billing.models import LedgerEntry, Spend
from billing.models.usage import UsagePath


@dataclass(frozen=True, slots=True)
class Spent:
    """USD by path; `total` is their sum. `cap` is the monthly budget, None when the team has none; `held` is what
    the open calls of the month could still add at most."""

    hosted: Decimal
    serverless: Decimal
    cap: Decimal | None = None
    held: Decimal = Decimal(0)

    @property
    def total(self) -> Decimal:
        return self.hosted + self.serverless


@dataclass(frozen=True, slots=True)
class Metered:
    """USD, and how much of the meter's unit."""

    amount: Decimal
    quantity: Decimal


def today(team: Team, *, now: datetime | None = None) -> Spent:
    """Since midnight in the team's time zone."""
    moment = now or timezone.now()
    day = moment.astimezone(periods.zone_of(team.time_zone)).date()
    begins = periods.start_of_day(day, team.time_zone)
    return _spent(entries(team, begins, periods.start_of_day(day + timedelta(days=1), team.time_zone)))


def month(team: Team, *, now: datetime | None = None) -> Spent:
    """This calendar month in the team's time zone, with its cap and what open calls hold of it."""
    current = periods.month_at(now or timezone.now(), team.time_zone)
    spent = _spent(entries(team, current.begins, current.ends))
    spend = Spend.objects.filter(team=team, month=current.first).first()
    held = spend.held if spend else Decimal(0)
    return Spent(hosted=spent.hosted, serverless=spent.serverless, cap=cap_of(team), held=held)


def of_deployment(
    team: Team, *, deployment_name: str, since: Mapping[str, datetime], until: datetime | None = None
) -> dict[str, dict[str, Metered]]:
    """What a deployment of this name has cost since each of these moments, by meter; in one query."""
    begins = min(since.values())
    rows = LedgerEntry.objects.filter(team=team, deployment_name=deployment_name, at__gte=begins)
    rows = rows.filter(at__lt=until) if until else rows
    sums = {}
    for name, moment in since.items():
        sums[f"{name}_amount"] = Sum("amount", filter=Q(at__gte=moment), default=Decimal(0))
        sums[f"{name}_quantity"] = Sum("quantity", filter=Q(at__gte=moment), default=Decimal(0))
    found: dict[str, dict[str, Metered]] = {name: {} for name in since}
    columns = ["meter", *sums]
    for values in rows.order_by().values("meter").annotate(**sums).values_list(*columns):
        row = dict(zip(columns, values, strict=True))
        for name in since:
            found[name][row["meter"]] = Metered(row[f"{name}_amount"], row[f"{name}_quantity"])
    return found


@dataclass(frozen=True, slots=True)
class Use:
    """What one key used of a model, or the playground; where `api_key_name` is empty, a deployment's engines. USD."""

    path: str
    api_key_name: str
    deployment_name: str
    amount: Decimal
    tokens_in: Decimal
    tokens_out: Decimal
    seconds: Decimal
    last_at: datetime


def of_model(team: Team, *, sku: str, model_name: str, since: datetime) -> list[Use]:
    """Who used a model since then: hosted under its sku, in deployments under its name. The dearest first; credits,
    which are about no model, are not in it. In one query."""
    hosted, deployed = Q(path=UsagePath.HOSTED, sku=sku), Q(path=UsagePath.SERVERLESS, model_name=model_name)
    rows = LedgerEntry.objects.filter(hosted | deployed, team=team, at__gte=since)
    keys = ("path", "api_key_name", "deployment_name")
    zero = Decimal(0)
    sums = rows.order_by().values(*keys).annotate(
        cost=Sum("amount", default=zero),
        tokens_in=Sum("quantity", filter=Q(meter__startswith="tokens.input"), default=zero),
        tokens_out=Sum("quantity", filter=Q(meter__startswith="tokens.output"), default=zero),
        seconds=Sum("quantity", filter=Q(meter__startswith="compute."), default=zero),
        last_at=Max("at"),
    )  # fmt: skip
    found = [
        Use(
            path=row["path"],
            api_key_name=row["api_key_name"],
            deployment_name=row["deployment_name"],
            amount=row["cost"],
            tokens_in=row["tokens_in"],
            tokens_out=row["tokens_out"],
            seconds=row["seconds"],
            last_at=row["last_at"],
        )
        for row in sums
    ]
    return sorted(found, key=lambda use: (-use.amount, use.api_key_name))


BUSY = """
SELECT coalesce(sum(extract(epoch FROM upper(r) - lower(r))), 0) FROM (
    SELECT unnest(range_agg(tstzrange(greatest(started_at, %s), least(ended_at, %s)))) AS r
    FROM billing_usageevent
    WHERE team_id = %s AND deployment_name = %s AND started_at >= %s AND started_at < %s AND ended_at > %s
      AND ended_at > started_at AND quantities ?| array['tokens.input', 'tokens.output']
) AS busy
"""
LONGEST_CALL = timedelta(hours=1)


def busy_seconds(team: Team, *, deployment_name: str, begins: datetime, ends: datetime) -> float:
    """For how long at least one call was being answered in [begins, ends): the calls' times laid over one another.
    A call that began more than an hour before is not seen."""
    early = begins - LONGEST_CALL
    with connection.cursor() as cursor:
        cursor.execute(BUSY, [begins, ends, team.pk, deployment_name, early, ends, begins])
        return float(cursor.fetchone()[0])


def cap_of(team: Team) -> Decimal | None:
    """The team's monthly budget in USD, None when it has none."""
    budget = budgets.of_team(team)
    return budget.usd if budget else None


def entries(team: Team, begins: datetime, ends: datetime) -> QuerySet[LedgerEntry]:
    """The team's ledger for begins <= at < ends."""
    return LedgerEntry.objects.filter(team=team, at__gte=begins, at__lt=ends)


def _spent(rows: QuerySet[LedgerEntry]) -> Spent:
    by_path = dict(rows.values_list("path").annotate(cost=Sum("amount")).order_by())
    return Spent(
        hosted=by_path.get(UsagePath.HOSTED, Decimal(0)), serverless=by_path.get(UsagePath.SERVERLESS, Decimal(0))
    )
