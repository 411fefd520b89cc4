"""The ledger's sums by day or hour by a plain call, told apart by one thing, filtered by any. Exact.

The costs page reads the same sums through billing.costs.

Two kinds of range. By time: what happened from `begins` until before `ends`. A `month` besides: what stands on each
team's statement of it (billing.scope), each team's days by its own calendar; what came too late for an earlier invoice
is in, under its own day before `begins`, and what came too late for this one is not. Then all cells sum to the
statement.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from accounts.models import Team
from billing import periods, rating, scope, sources
from billing.sources import Asked, Grid, Part

Split: TypeAlias = Literal["path", "model", "deployment", "key", "member", "tag", "team", "meter"]
Step: TypeAlias = Literal["day", "hour"]
COLUMNS = {
    "path": "path",
    "model": "model_name",
    "deployment": "deployment_name",
    "key": "api_key_name",
    "member": "member",
    "tag": "tag",
    "team": "team_id",
    "meter": "meter",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Only what is exactly this; None: any. An empty text is a value: what has no deployment, key, member or tag.
    `team` is a slug."""

    path: str | None = None
    model: str | None = None
    deployment: str | None = None
    key: str | None = None
    member: str | None = None
    tag: str | None = None
    team: str | None = None
    meter: str | None = None

    def given(self) -> dict[str, str]:
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in found.items() if value is not None}


ALL = Filters()


@dataclass(frozen=True, slots=True)
class Cell:
    """A bar of a chart, or a part of one: what one label costs in the day or hour that begins at `start`.

    `label` is the value that it is split by (a team's slug), empty for none; a credit has an empty path. `quantity` has
    a unit only where all of it is of one meter. `calls` counts calls, each once; by meter, those that used it. `saved`
    is what cached tokens would have cost more, uncached.
    """

    start: datetime
    path: str
    label: str
    quantity: Decimal
    cost: Decimal
    calls: int
    saved: Decimal


@dataclass(frozen=True, slots=True)
class Line:
    """One label's use of one meter at one price over the whole range. `calls` are those that used the meter."""

    label: str
    path: str
    kind: str
    meter: str
    unit_price: Decimal
    quantity: Decimal
    cost: Decimal
    calls: int
    saved: Decimal


@dataclass(frozen=True, slots=True)
class Totals:
    """The whole range. `cost` = `hosted` + `serverless` + `credited` (which is negative)."""

    cost: Decimal = Decimal(0)
    hosted: Decimal = Decimal(0)
    serverless: Decimal = Decimal(0)
    credited: Decimal = Decimal(0)
    calls: int = 0
    saved: Decimal = Decimal(0)


def cells(
    teams: Sequence[Team],
    begins: datetime,
    ends: datetime,
    *,
    step: Step,
    zone: str,
    split: Split,
    where: Filters = ALL,
    month: periods.Month | None = None,
) -> list[Cell]:
    """By time, path and label, in this order; only what there is. `start` is in `zone`: midnights for days, full hours
    of its clock for hours (with a change of clocks in it a day has 23 or 25)."""
    asked = _asked(teams, begins, ends, zone=zone, where=where, month=month)
    grid, slugs = sources.grid_of(asked, step=step, zone=zone), _slugs(teams)
    by_meter = split == "meter" or where.meter is not None
    rows = _rows(asked, grid=grid, names=("number", "path", COLUMNS[split]), by_meter=by_meter)
    found = [Cell(grid.starts[place - 1], path, slugs.get(name, name), *sums) for place, path, name, *sums in rows]
    return sorted(found, key=lambda cell: (cell.start, cell.path, cell.label))


def lines(
    teams: Sequence[Team],
    begins: datetime,
    ends: datetime,
    *,
    zone: str,
    split: Split,
    where: Filters = ALL,
    month: periods.Month | None = None,
) -> list[Line]:
    """By label, path, meter and price; the label that costs most before the others."""
    asked = _asked(teams, begins, ends, zone=zone, where=where, month=month)
    slugs = _slugs(teams)
    names = (COLUMNS[split], "path", "kind", "meter", "unit_price")
    rows = _rows(asked, grid=sources.NO_GRID, names=names, by_meter=True)
    found = [Line(slugs.get(label, label), *rest) for label, *rest in rows]
    costs: dict[str, Decimal] = {}
    for line in found:
        costs[line.label] = rating.add([costs.get(line.label, Decimal(0)), line.cost])
    return sorted(found, key=lambda line: (-costs[line.label], line.label, line.path, line.kind, line.meter))


def totals(
    teams: Sequence[Team],
    begins: datetime,
    ends: datetime,
    *,
    zone: str,
    where: Filters = ALL,
    month: periods.Month | None = None,
) -> Totals:
    """The sum of all cells of the same range and filters."""
    asked = _asked(teams, begins, ends, zone=zone, where=where, month=month)
    rows = _rows(asked, grid=sources.NO_GRID, names=("path",), by_meter=where.meter is not None)
    by_path = {path: sums for path, *sums in rows}
    costs = {path: by_path[path][1] if path in by_path else Decimal(0) for path in ("hosted", "serverless", "")}
    return Totals(
        cost=rating.add(costs.values()),
        hosted=costs["hosted"],
        serverless=costs["serverless"],
        credited=costs[""],
        calls=sum(sums[2] for sums in by_path.values()),
        saved=rating.add(sums[3] for sums in by_path.values()),
    )


def _asked(
    teams: Sequence[Team], begins: datetime, ends: datetime, *, zone: str, where: Filters, month: periods.Month | None
) -> Asked:
    wanted = [team for team in teams if where.team in {None, team.slug}]
    if month is None:
        parts = [Part(tuple(team.pk for team in wanted), periods.zone_name(zone), begins, ends)]
    else:
        months = [(team, periods.Month(month.first, periods.zone_name(team.time_zone))) for team in wanted]
        parts = sources.parts_of(scope.of_teams(months) if months else ())
    filters = {COLUMNS[name]: text for name, text in where.given().items() if name != "team"}
    return Asked(tuple(parts) if wanted else (), filters)


def _rows(asked: Asked, *, grid: Grid, names: tuple[str, ...], by_meter: bool) -> list[tuple[Any, ...]]:
    """Groups of these columns with their quantity, cost, calls and what they saved."""
    return sources.summed(asked, grid=grid, names=names, calls="uses" if by_meter else "calls")


def _slugs(teams: Sequence[Team]) -> dict[Any, str]:
    return {team.pk: team.slug for team in teams}
