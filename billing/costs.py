"""What the costs page shows of the ledger: one reading for the chart, its table, its CSV and the rows behind a bar.

A month is the statement of it (billing.scope), each team's days by its own calendar; any other stretch of days is what
happened in it. Usage is told apart by the page's split; credits and corrections stand apart from it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import reduce
from operator import or_
from typing import Any, Literal

from django.db.models import Q, QuerySet

from accounts.models import Team
from billing import meters, periods, rating, scope, sources
from billing.forecasting import DayCost
from billing.models import LedgerEntry
from billing.questions import Question, Thing
from billing.scope import Scope
from billing.sources import Asked, Grid, Mark, Part
from billing.spending import COLUMNS, Split

USAGE, CREDIT, CORRECTION = (
    LedgerEntry.Kind.USAGE.value,
    LedgerEntry.Kind.CREDIT.value,
    LedgerEntry.Kind.CORRECTION.value,
)
APART = {CREDIT: "Credits", CORRECTION: "Corrections"}
LATE = "late"
ZERO = Decimal(0)
STARTING, FAILED_STARTS = meters.COMPUTE_STARTING.name, meters.COMPUTE_STARTING_FAILED.name


@dataclass(frozen=True, slots=True)
class Bucket:
    """A day or an hour. `at` names it in a URL; LATE is what came too late for the statements of earlier months."""

    at: str
    start: datetime | None

    @property
    def name(self) -> str:
        if self.start is None:
            return "Earlier months, late"
        text = f"{self.start:%a} {self.start.day} {self.start:%b}"
        return f"{text}, {self.start:%H:%M}" if "T" in self.at else text


@dataclass(frozen=True, slots=True)
class Series:
    """One colour of the chart and one line of its table. `value` is what it is split by; `kind` says whether it is
    usage, credits or corrections (those two have no value and no path). `by_bucket` has only what is not nothing."""

    kind: str
    path: str
    value: str
    by_bucket: Mapping[int, Decimal]
    cost: Decimal
    calls: int
    saved: Decimal


@dataclass(frozen=True, slots=True)
class Line:
    """What one value used of one meter at one price."""

    kind: str
    path: str
    value: str
    meter: str
    unit_price: Decimal
    quantity: Decimal
    cost: Decimal
    calls: int

    @property
    def meter_label(self) -> str:
        return meters.METERS[self.meter].label if self.meter in meters.METERS else self.meter or "Credit"

    @property
    def quoted(self) -> Decimal:
        """The price as people quote it: per million tokens, per hour."""
        return self.unit_price * (meters.METERS[self.meter].per if self.meter in meters.METERS else 1)

    @property
    def quoted_per(self) -> str:
        unit = meters.METERS[self.meter].unit if self.meter in meters.METERS else "unit"
        return {"token": "M", "second": "h"}.get(unit, unit)


@dataclass(frozen=True, slots=True)
class Reading:
    """The answer to a question: what there is in each bucket, the dearest series first. Bucket 0 is LATE."""

    question: Question
    buckets: tuple[Bucket, ...]
    series: tuple[Series, ...]

    @property
    def cost(self) -> Decimal:
        return rating.add(one.cost for one in self.series)

    @property
    def hosted(self) -> Decimal:
        return self._of_path("hosted")

    @property
    def serverless(self) -> Decimal:
        return self._of_path("serverless")

    @property
    def credited(self) -> Decimal:
        return self._of_kind(CREDIT)

    @property
    def corrected(self) -> Decimal:
        return self._of_kind(CORRECTION)

    @property
    def late(self) -> Decimal:
        return rating.add(one.by_bucket.get(0, ZERO) for one in self.series)

    @property
    def saved(self) -> Decimal:
        return rating.add(one.saved for one in self.series)

    def _of_path(self, path: str) -> Decimal:
        return rating.add(one.cost for one in self.series if one.path == path)

    def _of_kind(self, kind: str) -> Decimal:
        return rating.add(one.cost for one in self.series if one.kind == kind)


@dataclass(frozen=True, slots=True)
class Standing:
    """The teams and what they are asked: in one query for all that a page reads of them."""

    question: Question
    teams: tuple[Team, ...]
    scopes: tuple[Scope, ...]
    asked: Asked
    grid: Grid
    mark: Mark

    def summed(
        self, names: tuple[str, ...], *, calls: Literal["calls", "uses"] = "calls", asked: Asked | None = None,
        grid: Grid = sources.NO_GRID,
    ) -> list[Any]:  # fmt: skip
        return sources.summed(asked or self.asked, grid=grid, names=names, calls=calls, mark=self.mark)

    def span(self, zone: str, number: int) -> tuple[datetime | None, datetime | None]:
        """From when until when the bucket lasts on the clock of this zone; None: without a bound."""
        lines = (self.grid.lines or {}).get(zone, ())  # none: the question is about no team
        return (lines[number - 1] if number else None), (lines[number] if number < len(lines) else None)


def stand(question: Question, teams: Sequence[Team], *, mark: Mark | None = None) -> Standing:
    """What of the ledger the question is about. `mark`: if it is known, of these teams at least."""
    wanted = tuple(team for team in teams if question.where.team in {None, team.slug})
    scopes: tuple[Scope, ...] = ()
    if question.month is None:
        ids = tuple(team.pk for team in wanted)
        parts = [Part(ids, question.zone, question.begins, question.ends)] if wanted else []
        bounds = parts
    else:
        first = question.month.first
        months = [(team, periods.Month(first, periods.zone_name(team.time_zone))) for team in wanted]
        scopes = tuple(scope.of_teams(months))
        parts = sources.parts_of(scopes)
        by_zone = {one.zone: one.month for one in scopes}
        bounds = [Part((), zone, month.begins, month.ends) for zone, month in by_zone.items()]
    given = question.where.given().items()
    filters = {COLUMNS[name]: text for name, text in given if name != "team"}  # type: ignore[index]
    grid = sources.grid_of(Asked(tuple(bounds), {}), step=question.step, zone=question.zone)
    asked = Asked(tuple(parts), filters)
    return Standing(question, wanted, scopes, asked, grid, sources.mark_of(asked) if mark is None else mark)


def read(standing: Standing) -> Reading:
    """Every cent of it, by bucket and by what it is split by."""
    question, slugs = standing.question, {team.pk: team.slug for team in standing.teams}
    by_meter = question.split == "meter" or question.where.meter is not None
    names = ("number", "kind", "path", COLUMNS[question.split])
    found: dict[tuple[str, str, str], list[tuple[int, Decimal, int, Decimal]]] = {}
    rows = standing.summed(names, calls="uses" if by_meter else "calls", grid=standing.grid)
    for number, kind, path, value, _, cost, calls, saved in rows:
        key = (kind, "", "") if kind in APART else (kind, path, slugs.get(value, value))
        found.setdefault(key, []).append((max(number, 0), cost, calls, saved))
    series = sorted((_series(key, parts) for key, parts in found.items()), key=_place)
    return Reading(question, buckets_of(standing), tuple(series))


def buckets_of(standing: Standing) -> tuple[Bucket, ...]:
    hourly = standing.grid.step == "hour"
    starts = standing.grid.starts
    names = (start.isoformat(timespec="minutes") if hourly else start.date().isoformat() for start in starts)
    return (Bucket(LATE, None), *(Bucket(name, start) for name, start in zip(names, starts, strict=True)))


def lines(standing: Standing) -> list[Line]:
    """By value, meter and price; the dearest value first. Their calls add up to the calls, each counted once."""
    question, slugs = standing.question, {team.pk: team.slug for team in standing.teams}
    split = () if question.split == "meter" else (COLUMNS[question.split],)
    found = []
    counted: Literal["calls", "uses"] = "uses" if question.where.meter is not None else "calls"
    for row in standing.summed(("kind", "path", *split, "meter", "unit_price"), calls=counted):
        kind, path, *named, quantity, cost, calls, _ = row
        value, meter, price = named if len(named) == 3 else (named[0], *named)
        found.append(Line(kind, path, slugs.get(value, value), meter, price, quantity, cost, calls))
    costs: dict[str, Decimal] = {}
    for line in found:
        costs[line.value] = rating.add([costs.get(line.value, ZERO), line.cost])
    return sorted(found, key=lambda line: (-costs[line.value], line.value, line.kind != USAGE, line.path, line.meter))


def spent_by(standing: Standing) -> dict[str, DayCost]:
    """What each team's statement (or stretch of days) comes to, by the team's slug, with corrections and before
    credits."""
    slugs = {team.pk: team.slug for team in standing.teams}
    found: dict[str, DayCost] = dict.fromkeys(slugs.values(), DayCost())
    for team, path, _, cost, *_ in standing.summed(("team_id", "path")):
        found[slugs[team]] = _plus(found[slugs[team]], path, cost)
    return found


def by_value(standing: Standing) -> dict[Split, dict[str, Decimal]]:
    """What each value of each split has used, without credits and corrections. Those that days are not summed by alone
    (billing.rollups) come of one sum."""
    slugs = {team.pk: team.slug for team in standing.teams}
    together: list[Split] = ["path", "meter", "team"]
    alone: list[Split] = ["model", "deployment", "key", "member", "tag"]
    groups = [together, *([split] for split in alone)]
    found: dict[Split, dict[str, Decimal]] = {split: {} for split in (*together, *alone)}
    for group in groups:
        for kind, *rest in standing.summed(("kind", *(COLUMNS[split] for split in group))):
            if kind == USAGE:
                cost = rest[len(group) + 1]
                for split, value in zip(group, rest, strict=False):
                    name = slugs.get(value, value)
                    found[split][name] = rating.add([found[split].get(name, ZERO), cost])
    return found


def history(standing: Standing, first: date, last: date) -> dict[str, dict[date, DayCost]]:
    """What happened on each of these days, whatever statement it stands on: by the team's slug and the day of its own
    calendar (of the question's, where that is no month)."""
    teams: dict[str, list[Team]] = {}
    for team in standing.teams:
        zone = standing.question.zone if standing.question.month is None else periods.zone_name(team.time_zone)
        teams.setdefault(zone, []).append(team)
    parts = [
        Part(
            tuple(team.pk for team in those),
            zone,
            periods.start_of_day(first, zone),
            periods.start_of_day(last + timedelta(days=1), zone),
        )
        for zone, those in teams.items()
    ]
    asked = replace(standing.asked, parts=tuple(parts))
    grid = sources.grid_of(asked, step="day", zone=standing.question.zone)
    slugs = {team.pk: team.slug for team in standing.teams}
    found: dict[str, dict[date, DayCost]] = {slug: {} for slug in slugs.values()}
    for number, team, path, _, cost, *_ in standing.summed(("number", "team_id", "path"), asked=asked, grid=grid):
        days, day = found[slugs[team]], first + timedelta(days=number - 1)
        days[day] = _plus(days.get(day, DayCost()), path, cost)
    return found


def rows(standing: Standing, number: int | None, *, but: Sequence[Thing] = ()) -> QuerySet[LedgerEntry]:
    """The ledger's rows behind a bucket; None: behind all of them. `but`: without these of what it is split by."""
    found = LedgerEntry.objects.none()
    for one in standing.scopes:
        found |= _within(one.entries, standing, one.zone, number)
    if standing.question.month is None:
        entries = LedgerEntry.objects.filter(team__in=standing.teams)
        entries = entries.filter(at__gte=standing.question.begins, at__lt=standing.question.ends)
        found = _within(entries, standing, standing.question.zone, number)
    found = found.filter(**standing.asked.filters)
    return found.exclude(reduce(or_, (_is(standing, thing) for thing in but))) if but else found


def _is(standing: Standing, thing: Thing) -> Q:
    """The rows of one colour of the chart."""
    split, value = standing.question.split, thing.value
    if split != "team":
        return Q(path=thing.path, **{COLUMNS[split]: value})
    return Q(path=thing.path, team__in=[team.pk for team in standing.teams if team.slug == value])


def _within(entries: QuerySet[LedgerEntry], standing: Standing, zone: str, number: int | None) -> QuerySet[LedgerEntry]:
    if number is None:
        return entries
    begins, ends = standing.span(zone, number)
    entries = entries.filter(at__gte=begins) if begins else entries
    return entries.filter(at__lt=ends) if ends else entries


def _series(key: tuple[str, str, str], parts: Iterable[tuple[int, Decimal, int, Decimal]]) -> Series:
    by_bucket: dict[int, Decimal] = {}
    calls, saved = 0, []
    for number, cost, some, spared in parts:
        by_bucket[number] = rating.add([by_bucket.get(number, ZERO), cost])
        calls += some
        saved.append(spared)
    return Series(*key, by_bucket, rating.add(by_bucket.values()), calls, rating.add(saved))


def _place(one: Series) -> tuple[Any, ...]:
    """Usage before corrections before credits; the dearest first."""
    return ((USAGE, CORRECTION, CREDIT).index(one.kind), -one.cost, one.value, one.path)


def _plus(cost: DayCost, path: str, more: Decimal) -> DayCost:
    match path:
        case "hosted":
            return replace(cost, hosted=rating.add([cost.hosted, more]))
        case "serverless":
            return replace(cost, serverless=rating.add([cost.serverless, more]))
        case _:
            return cost
