"""The detail of a month: one row per ledger line, that is one per usage event and meter, with credits and corrections.

Its first columns and its last, `row_hash`, are those of billing.chain, which checks such a file without the portal.
Between them: the day in the team's time zone and that zone's name, the team, the unit, whether the usage was measured
or estimated, and whether it is late: of a month that was closed before. Times are UTC.
"""

import hashlib
from collections.abc import Iterable, Iterator

from psycopg import sql

from billing import chain, copying
from billing.meters import METERS
from billing.scope import Scope

EXTRA = ("date", "time_zone", "team", "unit", "quality", "late")
COLUMNS = (*chain.COLUMNS, *EXTRA, chain.HASH)
_TIMES = {"at"}
_NUMBERS = {"quantity", "unit_price", "list_price", "discount", "amount"}
_OURS = {"path", "meter"}  # the portal's own words, which no spreadsheet takes for formulas
_PLAIN = {"id", "kind", "team_id", "currency", "event_id", "corrects_id"}


def as_csv(scope: Scope) -> Iterator[bytes]:
    """The file in pieces. The same bytes each time, once the month is closed."""
    return copying.as_chunks(COLUMNS, chained(scope, copying.rows(query(scope))))


def head(scope: Scope) -> tuple[int, str]:
    """How many rows the file has, and the digest of the last one."""
    rows, last = 0, b""
    for line in chained(scope, copying.rows(query(scope))):
        rows, last = rows + 1, line
    return rows, last[-64:].decode()


def chained(scope: Scope, lines: Iterable[bytes]) -> Iterator[bytes]:
    """Each line with its digest as its last cell: COPY writes a row as billing.chain does."""
    digest = chain.genesis(scope.team_id, str(scope.month), COLUMNS).encode()
    sha256 = hashlib.sha256
    for line in lines:
        digest = sha256(digest + line).hexdigest().encode()
        yield b"%b,%b" % (line, digest)


def query(scope: Scope) -> sql.Composable:
    """The rows in the order in which they happened, as the cells of COLUMNS without the digest."""
    days = scope.days()
    cells = sql.SQL(", ").join([sql.Literal(str(scope.month)), *(_cell(field) for field in chain.FIELDS)])
    begins = sql.SQL("ARRAY[{}]").format(copying.literals(moment for _, moment in days))
    dates = sql.SQL("ARRAY[{}]").format(copying.literals(day.isoformat() for day, _ in days))
    extra = sql.SQL(
        "({dates})[greatest(1, width_bucket(e.at, {begins}))], {zone}, {team}, {unit}, nullif(e.quality, ''), "
        "CASE WHEN e.at < {first} THEN 'late' END"
    ).format(
        dates=dates,
        begins=begins,
        zone=sql.Literal(scope.zone),
        team=sql.Literal(chain.cell(scope.team_slug)),
        unit=_unit(),
        first=sql.Literal(scope.begins),
    )
    found = sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT e.* FROM billing_ledgerentry e WHERE {}").format(branch) for branch in scope.branches()
    )
    return sql.SQL("SELECT {cells}, {extra} FROM ({found}) e ORDER BY e.at, e.id").format(
        cells=cells, extra=extra, found=found
    )


def _cell(field: str) -> sql.Composable:
    column = f"e.{field}"
    if field in _TIMES:
        return copying.moment(column)
    if field in _NUMBERS:
        return sql.SQL("trim_scale({})").format(sql.SQL(column))
    if field in _PLAIN:
        return sql.SQL(column)
    if field in _OURS:
        return sql.SQL("nullif({}, '')").format(sql.SQL(column))
    return copying.text(column)


def _unit() -> sql.Composable:
    cases = sql.SQL(" ").join(
        sql.SQL("WHEN {} THEN {}").format(sql.Literal(meter.name), sql.Literal(meter.unit)) for meter in METERS.values()
    )
    return sql.SQL("CASE e.meter {} END").format(cases)
