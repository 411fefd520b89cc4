"""What was spent, for pages and other apps: exact sums in the time that a few rows take, whatever the ledger's length.

They are read as the costs page reads its own (billing.sources): from the sums that are kept beside the calls, and from
the ledger's rows that are in none yet.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Literal, TypeAlias
from uuid import UUID

from django.db import connection
from django.db.models import Max, Min
from django.utils import timezone

from accounts.models import Team
from billing import periods, rating, sources
from billing.models import LedgerEntry
from billing.models.usage import UsagePath
from billing.sources import BY_PART, NO_GRID, Asked, Mark, Part

ZERO = Decimal(0)
Group: TypeAlias = Literal["day", "model", "deployment", "key", "member", "tag", "path", "meter"]
COLUMNS: dict[Group, str] = {
    "model": "model_name",
    "deployment": "deployment_name",
    "key": "api_key_name",
    "member": "member",
    "tag": "tag",
    "path": "path",
    "meter": "meter",
}


@dataclass(frozen=True, slots=True)
class Spent:
    """USD by path; `total` is their sum."""

    hosted: Decimal
    serverless: Decimal

    @property
    def total(self) -> Decimal:
        return rating.add([self.hosted, self.serverless])


@dataclass(frozen=True, slots=True)
class Lately:
    """Since midnight and since the month began, by the team's clock."""

    today: Spent
    month: Spent


@dataclass(frozen=True, slots=True)
class Metered:
    """USD, and how much of the meter's unit."""

    amount: Decimal
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class Grouped:
    """How much of one meter, and what it cost, for one value of what was grouped by."""

    value: str
    meter: str
    quantity: Decimal
    cost: Decimal


def grouped(team: Team, *, group: Group, since: datetime, until: datetime) -> list[Grouped]:
    """What happened from `since` until before `until`, by value and meter; credits and corrections among it."""
    zone = periods.zone_name(team.time_zone)
    if group != "day":
        asked = Asked((Part((team.pk,), zone, since, until),), {})
        names = ("meter",) if group == "meter" else (COLUMNS[group], "meter")
        rows = sources.summed(asked, grid=NO_GRID, names=names, calls="calls")
        return [Grouped(str(row[0]), row[-5], row[-4], row[-3]) for row in rows]
    first, last = _reach(team, since, until)
    if first is None or last is None:
        return []
    asked = Asked((Part((team.pk,), zone, first, min(until, last + timedelta(microseconds=1))),), {})
    grid = sources.grid_of(asked, step="day", zone=zone)
    rows = sources.summed(asked, grid=grid, names=("number", "meter"), calls="calls")
    return [
        Grouped(grid.starts[number - 1].date().isoformat(), meter, quantity, cost)
        for number, meter, quantity, cost, *_ in rows
    ]


def lately(team: Team, *, now: datetime | None = None, mark: Mark | None = None) -> Lately:
    """What today and this month have cost so far, with corrections and before credits. `mark`: if it is known."""
    moment = now or timezone.now()
    month = periods.month_at(moment, team.time_zone)
    midnight = periods.start_of_day(moment.astimezone(periods.zone_of(team.time_zone)).date(), team.time_zone)
    before = Part((team.pk,), month.zone, month.begins, midnight)
    parts = (replace(before, begins=midnight, ends=month.ends), *([before] if midnight > month.begins else []))
    rows = sources.summed(Asked(parts, {}), grid=BY_PART, names=("number", "path"), calls="calls", mark=mark)
    costs = {(number, path): cost for number, path, _, cost, *_ in rows}
    today, earlier = (
        Spent(costs.get((number, UsagePath.HOSTED), ZERO), costs.get((number, UsagePath.SERVERLESS), ZERO))
        for number in (1, 2)
    )
    hosted, serverless = rating.add([today.hosted, earlier.hosted]), rating.add([today.serverless, earlier.serverless])
    return Lately(today, Spent(hosted, serverless))


def of_deployment(
    team: Team, *, deployment_name: str, since: Mapping[str, datetime], until: datetime | None = None,
    mark: Mark | None = None,
) -> dict[str, dict[str, Metered]]:  # fmt: skip
    """What a deployment of this name has cost since each of these moments, by meter. `mark`: if it is known."""
    ends = until or _open_end(team)
    moments = sorted({min(moment, ends) for moment in since.values()} | {ends})
    whole = Part(
        (team.pk,), periods.zone_name(team.time_zone), None, ends, only=(("deployment_name", deployment_name),)
    )
    parts = tuple(replace(whole, begins=begins, ends=end) for begins, end in pairwise(moments))
    found: dict[str, dict[str, Metered]] = {name: {} for name in since}
    for number, meter, quantity, amount, *_ in sources.summed(
        Asked(parts, {}), grid=BY_PART, names=("number", "meter"), calls="calls", mark=mark
    ):
        for name, moment in since.items():
            if moment <= moments[number - 1]:
                before = found[name].get(meter, Metered(ZERO, ZERO))
                found[name][meter] = Metered(
                    rating.add([before.amount, amount]), rating.add([before.quantity, quantity])
                )
    return found


@dataclass(frozen=True, slots=True)
class Life:
    """A deployment of this name, from its birth until the name was another's (None: it is not). `alone`: the name has
    never been another's."""

    name: str
    born: datetime
    until: datetime | None
    alone: bool


def of_lives(
    team: Team, lives: Mapping[UUID, Life], *, since: datetime | None = None, mark: Mark | None = None
) -> dict[UUID, Decimal]:
    """What each has cost, USD, `since` then; those that cost nothing are left out. In two queries, however many; in one
    where the `mark` is known."""
    if not lives:
        return {}
    ends = _open_end(team)
    first = since or min(life.born for life in lives.values())
    whole = Part((team.pk,), periods.zone_name(team.time_zone), first, ends)
    alone = {life.name: pk for pk, life in lives.items() if life.alone}
    parts, each = [whole], dict[int, UUID]()
    for pk, life in lives.items():
        begins, end = max(life.born, first), min(life.until or ends, ends)
        if not life.alone and begins < end:
            parts.append(replace(whole, begins=begins, ends=end, only=(("deployment_name", life.name),)))
            each[len(parts)] = pk
    if not alone:
        parts, each = parts[1:], {number - 1: pk for number, pk in each.items()}
    names, asked, found = ("number", "deployment_name"), Asked(tuple(parts), {}), dict[UUID, Decimal]()
    for number, name, _, cost, *_ in sources.summed(asked, grid=BY_PART, names=names, calls="calls", mark=mark):
        if (owner := each.get(number) or alone.get(name)) is not None:
            found[owner] = cost
    return found


@dataclass(frozen=True, slots=True)
class Use:
    """What one key used of a model, or the playground; where `api_key_name` is empty, a deployment's engines. USD.
    `last_on`: the day of the team's calendar."""

    path: str
    api_key_name: str
    deployment_name: str
    amount: Decimal
    tokens_in: Decimal
    tokens_out: Decimal
    seconds: Decimal
    last_on: date


def of_model(team: Team, *, sku: str, model_name: str, since: datetime) -> list[Use]:
    """Who used a model since then: hosted under its sku, in deployments under its name. The dearest first; credits,
    which are about no model, are not in it."""
    zone, ends = periods.zone_name(team.time_zone), _open_end(team)
    hosted = Part((team.pk,), zone, since, ends, only=(("path", UsagePath.HOSTED.value), ("sku", sku)))
    deployed = replace(hosted, only=(("path", UsagePath.SERVERLESS.value), ("model_name", model_name)))
    asked = Asked((hosted, deployed), {})
    grid = sources.grid_of(asked, step="day", zone=zone)
    keys = ("number", "path", "api_key_name", "deployment_name", "meter")
    uses: dict[tuple[str, str, str], Use] = {}
    for number, path, key, deployment, meter, quantity, amount, *_ in sources.summed(
        asked, grid=grid, names=keys, calls="calls"
    ):
        day = grid.starts[number - 1].date()
        use = uses.get((path, key, deployment), Use(path, key, deployment, ZERO, ZERO, ZERO, ZERO, day))
        uses[path, key, deployment] = _used(use, meter, quantity, amount, day)
    return sorted(uses.values(), key=lambda use: (-use.amount, use.api_key_name))


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


def _used(use: Use, meter: str, quantity: Decimal, amount: Decimal, day: date) -> Use:
    """With that much more."""
    more = replace(use, amount=rating.add([use.amount, amount]), last_on=max(use.last_on, day))
    if meter.startswith("tokens.input"):
        return replace(more, tokens_in=rating.add([use.tokens_in, quantity]))
    if meter.startswith("tokens.output"):
        return replace(more, tokens_out=rating.add([use.tokens_out, quantity]))
    if meter.startswith("compute."):
        return replace(more, seconds=rating.add([use.seconds, quantity]))
    return more


def _reach(team: Team, since: datetime, until: datetime) -> tuple[datetime | None, datetime | None]:
    """When the first and the last row in the range happened: there may be decades without any."""
    rows = LedgerEntry.objects.filter(team=team, at__gte=since, at__lt=until)
    found = rows.aggregate(first=Min("at"), last=Max("at"))
    return found["first"], found["last"]


def _open_end(team: Team) -> datetime:
    """Later than anything that has happened, and a midnight, so that whole days are read."""
    today = timezone.now().astimezone(periods.zone_of(team.time_zone)).date()
    return periods.start_of_day(today + timedelta(days=2), team.time_zone)
