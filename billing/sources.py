"""Where a sum is read from: days, else quarter hours, else the ledger's own rows. One statement, so one moment of it.

Rows up to the mark are read from the sums (billing.rollups), those beyond it from the ledger. What stands on another
statement than its time says (billing.scope) is noted among the late rows: it is added here and taken away there.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from django.db import connection
from django.db.models import Min, OuterRef, Subquery
from psycopg import sql

from billing import copying, periods, rollups
from billing.models import LedgerEntry, RollupMark, RollupZone
from billing.rollups import ALL, NAMES, SPLITS, WITHIN
from billing.scope import EMPTY, Scope

QUARTER = timedelta(minutes=15)
ATTEMPTS = 5
_SUMS = ("quantity", "amount", "calls", "uses", "saved", "entries")
_NUMBERS = sql.SQL(
    "{sign} * e.quantity AS quantity, {sign} * e.amount AS amount, {sign} * e.calls AS calls, "
    "CASE WHEN e.kind = 'usage' AND e.meter NOT LIKE 'compute.%' THEN {sign} ELSE 0 END AS uses, "
    "coalesce({sign} * e.quantity * (e.uncached_price - e.unit_price), 0) AS saved, {sign} AS entries"
)


@dataclass(frozen=True, slots=True)
class Part:
    """The teams' ledger with `begins` <= at < `ends` (begins None: from the first row) and id <= `upto` (None: all so
    far); and what came late: at < `begins` with an id beyond `late_after` (None: none). Days are those of `zone`.
    `written` is False for an invoice that is about to be: nobody has noted yet what it leaves to the next one. `only`:
    rows with exactly these values, by column."""

    team_ids: tuple[UUID, ...]
    zone: str
    begins: datetime | None
    ends: datetime
    upto: int | None = None
    late_after: int | None = None
    written: bool = True
    only: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """The rows that a question is about; `filters` are exact values by column."""

    parts: tuple[Part, ...]
    filters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the days or hours begin: `starts` as people read them, `lines` for each zone that has its own. `first` is
    the first day. By part: what is asked is numbered as its parts are, from 1."""

    step: Literal["day", "hour", "part", ""]
    starts: tuple[datetime, ...] = ()
    lines: Mapping[str, tuple[datetime, ...]] | None = None
    first: date | None = None


NO_GRID, BY_PART = Grid(""), Grid("part")


@dataclass(frozen=True, slots=True)
class Mark:
    """How far the sums go, and whose midnights each team's days are cut at."""

    through: int
    turn: int
    zones: Mapping[UUID, str]


# Calls, each once; those that used a meter; calls and slices of compute, each once, where `meter` is among the names.
_COUNTED = {
    "calls": "calls",
    "uses": "uses",
    "events": "CASE WHEN meter LIKE 'compute.%' THEN entries ELSE calls END",
}
LEDGER_ALONE = Mark(0, 0, {})
_MARK = """
SELECT m.through, m.turn, z.team_id, z.zone
FROM billing_rollupmark m LEFT JOIN billing_rollupzone z ON z.team_id = ANY(%s)
"""


def parts_of(scopes: Iterable[Scope]) -> list[Part]:
    """What stands on these statements, those of the same bounds together."""
    teams: dict[Part, list[UUID]] = {}
    for one in scopes:
        part = Part(
            (), one.zone, one.own_from, one.ends, one.upto, one.late_after, bool(one.number) or one.upto is None
        )
        teams.setdefault(part, []).append(one.team_id)
    return [replace(part, team_ids=tuple(ids)) for part, ids in teams.items() if part.upto != EMPTY]


def grid_of(asked: Asked, *, step: Literal["day", "hour"], zone: str) -> Grid:
    """Days are each part's own, hours those of `zone`'s clock; from the oldest row's on, without gaps."""
    if not asked.parts:
        return Grid(step)
    firsts = [_oldest(part) for part in asked.parts]
    if step == "hour":
        hours = tuple(_hours(min(firsts), max(part.ends for part in asked.parts), zone))
        local = tuple(hour.astimezone(periods.zone_of(zone)) for hour in hours)
        return Grid(step, local, {part.zone: hours for part in asked.parts})
    first = min(_day(moment, part.zone) for moment, part in zip(firsts, asked.parts, strict=True))
    last = max(_day(part.ends - timedelta(microseconds=1), part.zone) for part in asked.parts)
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    starts = tuple(periods.start_of_day(day, zone).astimezone(periods.zone_of(zone)) for day in days)
    zones = {part.zone for part in asked.parts}
    lines = {name: tuple(periods.start_of_day(day, name) for day in days) for name in zones}
    return Grid(step, starts, lines, first)


def summed(
    asked: Asked,
    *,
    grid: Grid,
    names: tuple[str, ...],
    calls: Literal["calls", "uses", "events"],
    mark: Mark | None = None,
) -> list[Any]:
    """Rows of `names` (team_id, those of rollups.NAMES, and `number`, the place in the grid from 1) with the exact sums
    of quantity and amount, the count of `calls` and what caches saved; in the order of the names. Groups in which rows
    that stand elsewhere took everything away are left out. With `split` among the names, and none of the ledger's: all
    rows once for each split that days are kept by, from its own sums. `mark`: read before, for several sums."""
    if not asked.parts:
        return []
    for attempt in range(ATTEMPTS):
        if mark is None or attempt:
            mark = mark_of(asked) if attempt < ATTEMPTS - 1 else LEDGER_ALONE
        places = range(1, len(asked.parts) + 1)
        found = [source for place in places for source in _Reading(place, asked, grid, names, mark).sources()]
        columns = sql.SQL(", ").join(sql.Identifier(name) for name in names)
        query = sql.SQL(
            "WITH r AS (SELECT {columns}, sum(quantity), sum(amount), sum({counted})::bigint, sum(saved) "
            "FROM ({sources}) AS s GROUP BY {columns} HAVING sum(entries) > 0 ORDER BY {columns}) "
            "SELECT m.turn, r.* FROM (SELECT coalesce(max(turn), 0) AS turn FROM billing_rollupmark) AS m "
            "LEFT JOIN r ON true"
        ).format(columns=columns, counted=sql.SQL(_COUNTED[calls]), sources=sql.SQL(" UNION ALL ").join(found))
        with connection.cursor() as cursor:
            cursor.execute(query)
            rows = cursor.fetchall()
        if not mark.through or rows[0][0] == mark.turn:
            return [row[1:] for row in rows if row[1] is not None]
    raise AssertionError("unreachable: the last attempt asks the ledger alone")


# For a query about rows that have a team: the mark comes along with them.
WITH_MARK = {
    "mark_through": Subquery(RollupMark.objects.values("through")[:1]),
    "mark_turn": Subquery(RollupMark.objects.values("turn")[:1]),
    "mark_zone": Subquery(RollupZone.objects.filter(team=OuterRef("team")).values("zone")[:1]),
}


def mark_with(team_id: UUID, *, through: int | None, turn: int | None, zone: str | None) -> Mark:
    """What WITH_MARK has read for a row of the team."""
    if through is None or turn is None:
        return LEDGER_ALONE
    return Mark(through, turn, {team_id: zone} if zone else {})


def mark_of(asked: Asked) -> Mark:
    """The mark as it stands, in one query; a run that moves it before the sums are read shows in its turn."""
    teams = [team for part in asked.parts for team in part.team_ids]
    with connection.cursor() as cursor:
        cursor.execute(_MARK, [teams])
        rows = cursor.fetchall()
    if not rows:
        return LEDGER_ALONE
    return Mark(rows[0][0], rows[0][1], {team: zone for _, _, team, zone in rows if team})


class _Reading:
    """One part's rows, from wherever they are read fastest. Every row comes from exactly one source."""

    def __init__(self, place: int, asked: Asked, grid: Grid, names: tuple[str, ...], mark: Mark) -> None:
        part = asked.parts[place - 1]
        self._part, self._grid, self._mark = part, grid, mark
        self._number = place if grid.step == "part" else 1
        self._filters = {**asked.filters, **dict(part.only)}
        told_apart = {WITHIN.get(name, name) for name in (*names, *self._filters)} & SPLITS.keys()
        own = SPLITS[told_apart.pop()] if len(told_apart) == 1 else "" if told_apart else ALL
        self._names = tuple(name for name in NAMES if name in names)
        self._splits = (ALL, *SPLITS.values()) if "split" in names else (own,)
        self._each_split = "split" in names

    def sources(self) -> Iterator[sql.Composable]:
        part, mark = self._part, self._mark
        if mark.through:
            daily = [team for team in part.team_ids if mark.zones.get(team) == part.zone and self._grid.step != "hour"]
            others = [team for team in part.team_ids if team not in set(daily)]
            if daily:
                yield from self._by_day(daily)
            if others:
                yield from self._by_quarter(others, part.begins, part.ends)
            if part.upto is not None:
                yield self._left_to_the_next(sql.SQL("e.id > {}").format(sql.Literal(part.upto)))
            if part.late_after is not None:
                yield self._noted(1, self._late())
        beyond = sql.SQL("e.id > {}").format(sql.Literal(mark.through))
        yield self._rows([*self._own(), beyond, *self._within()])
        if part.late_after is not None:
            yield self._rows([*self._late(), beyond])

    def _own(self) -> Sequence[sql.Composable]:
        found = [sql.SQL("e.at < {}").format(sql.Literal(self._part.ends))]
        if self._part.begins is not None:
            found.append(sql.SQL("e.at >= {}").format(sql.Literal(self._part.begins)))
        return found

    def _late(self) -> Sequence[sql.Composable]:
        begins, late_after = sql.Literal(self._part.begins), sql.Literal(self._part.late_after)
        return [sql.SQL("e.at < {} AND e.id > {}").format(begins, late_after), *self._within()]

    def _within(self) -> Sequence[sql.Composable]:
        return [] if self._part.upto is None else [sql.SQL("e.id <= {}").format(sql.Literal(self._part.upto))]

    def _by_day(self, teams: Sequence[UUID]) -> Iterator[sql.Composable]:
        """Whole days from the days, what is left at both ends from the quarters."""
        part = self._part
        first = None if part.begins is None else _first_whole_day(part.begins, part.zone)
        after = _day(part.ends, part.zone)
        if first is not None and first >= after:
            yield from self._by_quarter(teams, part.begins, part.ends)
            return
        bounds = [sql.SQL("r.day < {}").format(sql.Literal(after))]
        if first is not None:
            bounds.append(sql.SQL("r.day >= {}").format(sql.Literal(first)))
        bounds.append(sql.SQL("r.split = ANY({})").format(sql.Literal(list(self._splits))))
        number: sql.Composable = sql.Literal(self._number)
        if self._grid.step == "day":
            number = sql.SQL("(r.day - {} + 1)").format(sql.Literal(self._grid.first))
        yield self._from_sums("billing_rollupday", number, teams, bounds)
        if part.begins is not None and first is not None:
            yield from self._by_quarter(teams, part.begins, periods.start_of_day(first, part.zone))
        yield from self._by_quarter(teams, periods.start_of_day(after, part.zone), part.ends)

    def _by_quarter(self, teams: Sequence[UUID], begins: datetime | None, ends: datetime) -> Iterator[sql.Composable]:
        """Whole quarters of an hour from the sums, what is left at both ends from the rows."""
        if begins is not None and begins >= ends:
            return
        first = None if begins is None else _floor(begins + QUARTER - timedelta(microseconds=1))
        last = _floor(ends)
        seen = sql.SQL("e.id <= {}").format(sql.Literal(self._mark.through))
        if first is not None and first > last:
            yield self._rows([_between("e.at", begins, ends), seen], teams)
            return
        if first is None or first < last:
            yield self._from_sums("billing_rollupquarter", self._place("r.at"), teams, [_between("r.at", first, last)])
        if begins is not None and first is not None and begins < first:
            yield self._rows([_between("e.at", begins, first), seen], teams)
        if last < ends:
            yield self._rows([_between("e.at", last, ends), seen], teams)

    def _from_sums(
        self, table: str, number: sql.Composable, teams: Sequence[UUID], bounds: Sequence[sql.Composable]
    ) -> sql.Composable:
        tables, split = sql.SQL("{} r").format(sql.Identifier(table)), self._split_of(table)
        if table != "billing_rollupday":
            tables += self._for_each_split()
        where = sql.SQL("r.team_id = ANY({}) AND {}").format(sql.Literal(list(teams)), sql.SQL(" AND ").join(bounds))
        # Of what a sum is, need not be looked up for the sums of all.
        of_all = not self._names and not self._filters
        grouped = sql.SQL(
            "SELECT {number} AS number, r.team_id, {split} AS split, {subject}, {sums} FROM {tables} "
            "WHERE {where} GROUP BY 1, 2, 3, 4"
        ).format(
            number=number,
            split=split,
            subject=sql.SQL("NULL::bigint AS subject_id" if of_all else "r.subject_id"),
            sums=sql.SQL(", ").join(sql.SQL("sum(r.{0}) AS {0}").format(sql.Identifier(name)) for name in _SUMS),
            tables=tables,
            where=where,
        )
        if of_all:
            columns = _columns("q", ("number", "team_id", "split", *_SUMS))
            return sql.SQL("SELECT {} FROM ({}) AS q").format(columns, grouped)
        return sql.SQL(
            "SELECT q.number, q.team_id, q.split, {names} {sums} "
            "FROM ({grouped}) AS q JOIN billing_rollupsubject e ON e.id = q.subject_id WHERE {filters}"
        ).format(
            names=self._named(),
            sums=_columns("q", _SUMS),
            grouped=grouped,
            filters=sql.SQL(" AND ").join([*self._filtered(), sql.SQL("true")]),
        )

    def _named(self) -> sql.Composable:
        """The names that are asked for, each with a comma behind it."""
        return sql.SQL("").join(sql.SQL("e.{}, ").format(sql.Identifier(name)) for name in self._names)

    def _split_of(self, table: str) -> sql.Composable:
        if not self._each_split:
            return sql.SQL("''")
        return sql.SQL("r.split") if table == "billing_rollupday" else sql.SQL("each.split")

    def _for_each_split(self) -> sql.Composable:
        """Behind a table that knows no splits: its rows once for each."""
        if not self._each_split:
            return sql.SQL("")
        return sql.SQL(" CROSS JOIN unnest({}::text[]) AS each(split)").format(sql.Literal(list(self._splits)))

    def _rows(self, conditions: Sequence[sql.Composable], teams: Sequence[UUID] = ()) -> sql.Composable:
        return self._selected(sql.SQL("billing_ledgerentry e"), 1, conditions, teams)

    def _noted(self, sign: int, conditions: Sequence[sql.Composable]) -> sql.Composable:
        """Of the rows noted as late those that fit; they are in the sums, under their own time."""
        tables = sql.SQL("billing_rolluplate l JOIN billing_ledgerentry e ON e.id = l.entry_id")
        through = sql.SQL("e.id <= {}").format(sql.Literal(self._mark.through))
        mine = sql.SQL("l.team_id = ANY({}) AND l.at < {}").format(
            sql.Literal(list(self._part.team_ids)), sql.Literal(self._part.ends)
        )
        return self._selected(tables, sign, [mine, through, *conditions])

    def _left_to_the_next(self, beyond: sql.Composable) -> sql.Composable:
        """Taken away: in the sums, but beyond what the invoice sees."""
        if self._part.written:
            return self._noted(-1, [*self._own(), beyond])
        through = sql.SQL("e.id <= {}").format(sql.Literal(self._mark.through))
        return self._selected(sql.SQL("billing_ledgerentry e"), -1, [*self._own(), beyond, through])

    def _selected(
        self, tables: sql.Composable, sign: int, conditions: Sequence[sql.Composable], teams: Sequence[UUID] = ()
    ) -> sql.Composable:
        mine = sql.SQL("e.team_id = ANY({})").format(sql.Literal(list(teams or self._part.team_ids)))
        return sql.SQL(
            "SELECT {number} AS number, e.team_id, {split} AS split, {names} {numbers} FROM {tables} WHERE {conditions}"
        ).format(
            number=self._place("e.at"),
            split=self._split_of("billing_ledgerentry"),
            names=self._named(),
            numbers=_NUMBERS.format(sign=sql.Literal(sign)),
            tables=tables + self._for_each_split(),
            conditions=sql.SQL(" AND ").join([mine, *conditions, *self._filtered()]),
        )

    def _filtered(self) -> Sequence[sql.Composable]:
        return [
            sql.SQL("e.{} = {}").format(sql.Identifier(name), sql.Literal(text)) for name, text in self._filters.items()
        ]

    def _place(self, column: str) -> sql.Composable:
        if self._grid.lines is None:
            return sql.Literal(self._number)
        starts = copying.literals(self._grid.lines[self._part.zone])
        return sql.SQL("width_bucket({}, ARRAY[{}])").format(sql.SQL(column), starts)


def _oldest(part: Part) -> datetime:
    """A moment that no row of the part is before, and near its first when some came late."""
    if part.begins is None:
        first = LedgerEntry.objects.filter(team__in=part.team_ids, at__lt=part.ends).aggregate(first=Min("at"))["first"]
        return first or part.ends - QUARTER
    if part.late_after is None:
        return part.begins
    late = rollups.first_late(part.team_ids, before=part.begins, after=part.late_after)
    return min(late, part.begins) if late else part.begins


def _hours(begins: datetime, ends: datetime, zone: str) -> Iterator[datetime]:
    """The full hours of the zone's clock that [begins, ends) touches."""
    clock = periods.zone_of(zone)
    moment = _floor(begins) - timedelta(hours=2)
    before: datetime | None = None
    while moment < ends:
        if moment.astimezone(clock).minute == 0:
            if moment > begins and before is not None:
                yield before
            before = moment
        moment += QUARTER
    if before is not None:
        yield before


def _first_whole_day(moment: datetime, zone: str) -> date:
    day = _day(moment, zone)
    return day if periods.start_of_day(day, zone) == moment else day + timedelta(days=1)


def _day(moment: datetime, zone: str) -> date:
    return moment.astimezone(periods.zone_of(zone)).date()


def _floor(moment: datetime) -> datetime:
    """When its quarter of an hour began."""
    return moment.replace(minute=moment.minute // 15 * 15, second=0, microsecond=0)


def _between(column: str, begins: datetime | None, ends: datetime) -> sql.Composable:
    found = sql.SQL("{} < {}").format(sql.SQL(column), sql.Literal(ends))
    if begins is None:
        return found
    return sql.SQL("{} AND {} >= {}").format(found, sql.SQL(column), sql.Literal(begins))


def _columns(table: str, names: Iterable[str]) -> sql.Composable:
    return sql.SQL(", ").join(sql.SQL("{}.{}").format(sql.Identifier(table), sql.Identifier(name)) for name in names)
