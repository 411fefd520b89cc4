"""Where a sum is read from. One statement, so one moment of the ledger."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from django.db import connection
from django.db.models import Min
from psycopg import sql

from billing import copying, periods
from billing.models import LedgerEntry
from billing.scope import Scope

QUARTER = timedelta(minutes=15)
NAMES = (
    "team_id",
    "path",
    "kind",
    "model_name",
    "deployment_name",
    "api_key_name",
    "member",
    "tag",
    "meter",
    "unit_price",
)
_NUMBERS = sql.SQL(
    "e.quantity, e.amount, e.calls, "
    "CASE WHEN e.kind = 'usage' AND e.meter NOT LIKE 'compute.%' THEN 1 ELSE 0 END AS uses, "
    "coalesce(e.quantity * (e.uncached_price - e.unit_price), 0) AS saved"
)


@dataclass(frozen=True, slots=True)
class Part:
    """The teams' ledger with `begins` <= at < `ends` (begins None: from the first row) and id <= `upto` (None: all so
    far); and what came late: at < `begins` with an id beyond `late_after` (None: none). Days are those of `zone`."""

    team_ids: tuple[UUID, ...]
    zone: str
    begins: datetime | None
    ends: datetime
    upto: int | None = None
    late_after: int | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """The rows that a question is about; `filters` are exact values by column."""

    parts: tuple[Part, ...]
    filters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the days or hours begin: `starts` as people read them, `lines` for each zone that has its own."""

    step: Literal["day", "hour", ""]
    starts: tuple[datetime, ...]
    lines: Mapping[str, tuple[datetime, ...]]


NO_GRID = Grid("", (), {})


def parts_of(scopes: Iterable[Scope]) -> list[Part]:
    """What stands on these statements, those of the same bounds together."""
    teams: dict[Part, list[UUID]] = {}
    for one in scopes:
        part = Part((), one.zone, one.own_from, one.ends, one.upto, one.late_after)
        teams.setdefault(part, []).append(one.team_id)
    return [replace(part, team_ids=tuple(ids)) for part, ids in teams.items()]


def grid_of(asked: Asked, *, step: Literal["day", "hour"], zone: str) -> Grid:
    """Days are each part's own, hours those of `zone`'s clock; from the oldest row's on, without gaps."""
    if not asked.parts:
        return Grid(step, (), {})
    firsts = [_oldest(part) for part in asked.parts]
    if step == "hour":
        hours = tuple(_hours(min(firsts), max(part.ends for part in asked.parts), zone))
        local = tuple(hour.astimezone(periods.zone_of(zone)) for hour in hours)
        return Grid(step, local, {part.zone: hours for part in asked.parts})
    pairs = list(zip(firsts, asked.parts, strict=True))
    first = min(_day(moment, part.zone) for moment, part in pairs)
    last = max(_day(part.ends - timedelta(microseconds=1), part.zone) for part in asked.parts)
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    starts = tuple(periods.start_of_day(day, zone).astimezone(periods.zone_of(zone)) for day in days)
    zones = {part.zone for part in asked.parts}
    return Grid(step, starts, {name: tuple(periods.start_of_day(day, name) for day in days) for name in zones})


def summed(asked: Asked, *, grid: Grid, names: tuple[str, ...], calls: Literal["calls", "uses"]) -> Iterator[Any]:
    """Rows of `names` (of NAMES, and `number`, the place in the grid from 1) with the exact sums of quantity and
    amount, the count of calls and what caches saved; in the order of the names."""
    found = [source for part in asked.parts for source in _ledger(part, asked, grid)]
    if not found:
        return
    columns = sql.SQL(", ").join(sql.Identifier(name) for name in names)
    query = sql.SQL(
        "SELECT {columns}, sum(quantity), sum(amount), sum({calls})::bigint, sum(saved) "
        "FROM ({sources}) AS r GROUP BY {columns} ORDER BY {columns}"
    ).format(columns=columns, calls=sql.Identifier(calls), sources=sql.SQL(" UNION ALL ").join(found))
    with connection.cursor() as cursor:
        cursor.execute(query)
        yield from cursor.fetchall()


def _ledger(part: Part, asked: Asked, grid: Grid) -> Iterator[sql.Composable]:
    """The part's rows themselves; conditions that exclude each other, so that each can use an index."""
    always = [
        sql.SQL("e.team_id = ANY({})").format(sql.Literal(list(part.team_ids))),
        sql.SQL("e.at < {}").format(sql.Literal(part.ends)),
        *_filtered(asked),
    ]
    if part.upto is not None:
        always.append(sql.SQL("e.id <= {}").format(sql.Literal(part.upto)))
    if part.begins is None:
        yield _selected(always, part, grid)
        return
    yield _selected([*always, sql.SQL("e.at >= {}").format(sql.Literal(part.begins))], part, grid)
    if part.late_after is not None:
        late = sql.SQL("e.at < {} AND e.id > {}").format(sql.Literal(part.begins), sql.Literal(part.late_after))
        yield _selected([*always, late], part, grid)


def _selected(conditions: list[sql.Composable], part: Part, grid: Grid) -> sql.Composable:
    names = sql.SQL(", ").join(sql.SQL("e.{}").format(sql.Identifier(name)) for name in NAMES)
    return sql.SQL("SELECT {number} AS number, {names}, {numbers} FROM billing_ledgerentry e WHERE {rows}").format(
        number=_number("e.at", part, grid), names=names, numbers=_NUMBERS, rows=sql.SQL(" AND ").join(conditions)
    )


def _number(column: str, part: Part, grid: Grid) -> sql.Composable:
    if not grid.step:
        return sql.SQL("1")
    starts = copying.literals(grid.lines[part.zone])
    return sql.SQL("width_bucket({}, ARRAY[{}])").format(sql.SQL(column), starts)


def _filtered(asked: Asked) -> list[sql.Composable]:
    return [
        sql.SQL("e.{} = {}").format(sql.Identifier(name), sql.Literal(text)) for name, text in asked.filters.items()
    ]


def _oldest(part: Part) -> datetime:
    """A moment no row of the part is before, and near its first when some came late."""
    if part.begins is not None and part.late_after is None:
        return part.begins
    rows = LedgerEntry.objects.filter(team__in=part.team_ids, at__lt=part.begins or part.ends)
    if part.late_after is not None:
        rows = rows.filter(pk__gt=part.late_after)
    first = rows.aggregate(first=Min("at"))["first"]
    return min(first or part.ends, part.begins or part.ends)


def _hours(begins: datetime, ends: datetime, zone: str) -> Iterator[datetime]:
    """The full hours of the zone's clock that [begins, ends) touches."""
    clock = periods.zone_of(zone)
    moment = begins.replace(minute=begins.minute // 15 * 15, second=0, microsecond=0) - timedelta(hours=2)
    before: datetime | None = None
    while moment < ends:
        if moment.astimezone(clock).minute == 0:
            if moment > begins and before is not None:
                yield before
            before = moment
        moment += QUARTER
    if before is not None:
        yield before


def _day(moment: datetime, zone: str) -> date:
    return moment.astimezone(periods.zone_of(zone)).date()
