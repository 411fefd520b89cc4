"""Keeps the sums that the pages read: each ledger row is added once, in the transaction that moves the mark past it.

It runs beside the calls and takes nothing from them. How far it may go is `chaining.settled_through`'s to say: below
that id no row can appear any more. Pages read the sums and, in the same statement, the ledger's rows beyond the mark,
so a number is never late and never twice, also when nobody has run this for a day.

Sums are kept by quarter hour of UTC, with all names of a row: every day and hour of every time zone begins with one. Of
the team's own days they are kept by each single name, too, so that a month's page reads a few rows for each label.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

import orjson
from django.db import connection, transaction
from django.db.models import F, Max, Min
from django.utils import timezone

from accounts.models import Team
from billing import chaining, periods
from billing.models import Invoice, LedgerEntry, RollupDay, RollupLate, RollupMark, RollupQuarter, RollupZone

BATCH = 400_000
PATIENCE_S = 3.0
STANDS_AFTER = timedelta(minutes=1)
_ONE_AT_A_TIME = 0x726F6C6C
NAMES = (
    "path", "kind", "sku", "model_name", "deployment_name", "api_key_name", "member", "tag", "meter", "unit_price",
)  # fmt: skip
# A name that days are also summed by alone -> its split.
SPLITS = {
    "model_name": "model",
    "deployment_name": "deployment",
    "api_key_name": "key",
    "member": "member",
    "tag": "tag",
}
# A name that days know only beside another one: what a model was sold as.
WITHIN = {"sku": "model_name"}
ALL = "all"
NUMBERS = """e.quantity, e.amount, e.calls,
CASE WHEN e.kind = 'usage' AND e.meter NOT LIKE 'compute.%%' THEN 1 ELSE 0 END AS uses,
coalesce(e.quantity * (e.uncached_price - e.unit_price), 0) AS saved, 1 AS entries"""
_LISTED = ", ".join(NAMES)
_SUMS = "quantity, amount, calls, uses, saved, entries"
_SUMMED = (
    "sum(quantity) AS quantity, sum(amount) AS amount, sum(calls)::bigint AS calls, sum(uses)::bigint AS uses, "
    "sum(saved) AS saved, sum(entries)::bigint AS entries"
)
_ADDED = ", ".join(f"{name} = r.{name} + excluded.{name}" for name in _SUMS.split(", "))


def _kept(name: str) -> str:
    """The name where the split tells it apart, else empty."""
    split = SPLITS.get(WITHIN.get(name, name))
    return f"CASE WHEN s.split IN ('', '{split}') THEN {name} ELSE '' END AS {name}" if split else name


_ONLY = ", ".join(_kept(name) for name in NAMES)
_SPLIT_VALUES = ", ".join(f"('{split}')" for split in ("", ALL, *SPLITS.values()))
_DIGEST = f"sha256(convert_to(ROW(team_id, split, {_LISTED})::text, 'UTF8'))"

_FROM_LEDGER = f"""
    SELECT team_id, date_bin('15 minutes', at, '2000-01-01Z') AS at, {_LISTED}, {_SUMMED}
    FROM (SELECT e.team_id, e.at, {", ".join(f"e.{name}" for name in NAMES)}, {NUMBERS}
          FROM billing_ledgerentry e WHERE e.id > %(after)s AND e.id <= %(until)s) AS e
    GROUP BY team_id, 2, {_LISTED}
"""  # noqa: S608 - made of this module's constants alone, like all below
_FROM_QUARTERS = f"""
    SELECT q.team_id, q.at, {", ".join(f"s.{name}" for name in NAMES)}, q.quantity, q.amount, q.calls, q.uses, q.saved,
           q.entries
    FROM billing_rollupquarter q JOIN billing_rollupsubject s ON s.id = q.subject_id WHERE q.team_id = %(team)s
"""  # noqa: S608
_QUARTERS = f"""
, quarters AS (
    INSERT INTO billing_rollupquarter AS r (team_id, at, subject_id, {_SUMS})
    SELECT f.team_id, f.at, s.id, {_SUMS}
    FROM (SELECT *, {_DIGEST} AS digest FROM (SELECT *, '' AS split FROM fresh) AS f) AS f
    JOIN subject s ON s.digest = f.digest
    ON CONFLICT (team_id, at, subject_id) DO UPDATE SET {_ADDED}
), late AS (
    INSERT INTO billing_rolluplate (entry_id, team_id, at)
    SELECT e.id, e.team_id, e.at FROM billing_ledgerentry e
    WHERE e.id > %(after)s AND e.id <= %(until)s AND EXISTS (
        SELECT FROM billing_invoice i WHERE i.team_id = e.team_id AND e.at < i.ends AND e.id > i.upto)
    ON CONFLICT DO NOTHING
)
"""  # noqa: S608


def _add(fresh: str, then: str) -> str:
    """Sums of quarter hours in `fresh` are added to the days by every split, and what `then` says."""
    return f"""
WITH fresh AS MATERIALIZED ({fresh}), zone AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(zones)s::json) AS z(team_id uuid, first date, starts timestamptz[])
), daily AS MATERIALIZED (
    SELECT f.team_id, z.first + width_bucket(f.at, z.starts) - 1 AS day, {_LISTED}, {_SUMMED}
    FROM fresh f JOIN zone z ON z.team_id = f.team_id GROUP BY f.team_id, 2, {_LISTED}
), keyed AS MATERIALIZED (
    SELECT *, {_DIGEST} AS digest FROM (
        SELECT team_id, split, day, {_LISTED}, {_SUMMED}
        FROM (SELECT team_id, s.split, day, {_ONLY}, {_SUMS} FROM daily, (VALUES {_SPLIT_VALUES}) AS s(split)) AS d
        GROUP BY team_id, split, day, {_LISTED}
    ) AS d
), known AS MATERIALIZED (
    SELECT id, digest FROM billing_rollupsubject WHERE digest IN (SELECT digest FROM keyed)
), made AS (
    INSERT INTO billing_rollupsubject (digest, team_id, split, {_LISTED})
    SELECT DISTINCT ON (digest) digest, team_id, split, {_LISTED} FROM keyed
    WHERE digest NOT IN (SELECT digest FROM known)
    RETURNING id, digest
), subject AS (SELECT id, digest FROM known UNION ALL SELECT id, digest FROM made), days AS (
    INSERT INTO billing_rollupday AS r (team_id, split, day, subject_id, {_SUMS})
    SELECT k.team_id, k.split, k.day, s.id, {_SUMS} FROM keyed k JOIN subject s ON s.digest = k.digest
    ON CONFLICT (team_id, split, day, subject_id) DO UPDATE SET {_ADDED}
) {then}
SELECT count(*) FROM fresh
"""  # noqa: S608


ROLL_UP = _add(_FROM_LEDGER, _QUARTERS)
CUT_DAYS = _add(_FROM_QUARTERS, "")
NOTE_LATE = """
INSERT INTO billing_rolluplate (entry_id, team_id, at)
SELECT e.id, e.team_id, e.at
FROM unnest(%s::uuid[], %s::timestamptz[], %s::bigint[]) AS i(team_id, ends, upto)
JOIN billing_ledgerentry e ON e.team_id = i.team_id AND e.at < i.ends AND e.id > i.upto
WHERE e.id > %s AND e.id <= (SELECT coalesce(max(through), 0) FROM billing_rollupmark)
ON CONFLICT DO NOTHING
"""


def roll_up(*, patience_s: float = PATIENCE_S) -> int:
    """Add what is committed to the sums; how many ledger rows' ids the mark went past. 0 too when somebody else is at
    it, or when a writer takes longer than `patience_s`: the next run goes on."""
    for team in _moved():
        _cut_days(team)
    through = chaining.settled_through(patience_s=patience_s)
    passed = sum(iter(lambda: _some(through), 0))
    if through:
        RollupMark.objects.filter(through__gte=through).update(looked_at=timezone.now())
    return passed


@dataclass(frozen=True, slots=True)
class Behind:
    """How much pages must read from the ledger itself: at most so many rows. Numbers are right all the same, only
    slower to come. `since`: when the sums last had everything; None: never."""

    rows: int
    since: datetime | None

    def stands(self, *, now: datetime) -> bool:
        """Nobody sums any more: worth a word on the page."""
        return self.rows > 0 and (self.since is None or now - self.since > STANDS_AFTER)


def behind() -> Behind:
    mark = RollupMark.objects.first() or RollupMark()
    last = LedgerEntry.objects.aggregate(last=Max("pk"))["last"] or 0
    return Behind(max(0, last - mark.through), mark.looked_at)


def first_late(team_ids: Sequence[UUID], *, before: datetime, after: int) -> datetime | None:
    """When the oldest of the teams' ledger rows at < `before` with an id beyond `after` began, if there are any."""
    through = RollupMark.objects.values_list("through", flat=True).first() or 0
    noted = RollupLate.objects.filter(team__in=team_ids, at__lt=before, pk__gt=after)
    beyond = LedgerEntry.objects.filter(team__in=team_ids, at__lt=before, pk__gt=max(through, after))
    firsts = [rows.aggregate(first=Min("at"))["first"] for rows in (noted, beyond)]
    return min((first for first in firsts if first is not None), default=None)


def note_late(invoices: Sequence[Invoice]) -> None:
    """These are being written in the caller's transaction: what the sums have already of the rows that they leave to
    the next ones is noted with them. Waits for a run that is under way."""
    teams, ends, uptos = zip(*((row.team_id, row.ends, row.upto) for row in invoices), strict=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_ONE_AT_A_TIME])
        cursor.execute(NOTE_LATE, [list(teams), list(ends), list(uptos), min(uptos)])


def rebuild(*, keep: bool) -> list[str]:
    """Sum the whole ledger up to the mark anew; what differed from the sums as they were, in words. With `keep` the new
    ones stay, else those of before. Pages read on meanwhile."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_ONE_AT_A_TIME])
        mark = _mark()
        for table, columns in _COMPARED.items():
            cursor.execute(f"CREATE TEMP TABLE before_{table} ON COMMIT DROP AS SELECT {columns} FROM {table}")  # noqa: S608
        for model in (RollupQuarter, RollupDay, RollupLate):
            model.objects.all().delete()
        through, mark.through = mark.through, 0
        mark.save(update_fields=["through"])
        while _some(through):
            pass
        differing = [text for table, columns in _COMPARED.items() for text in _differences(cursor, table, columns)]
        for table in _COMPARED:
            cursor.execute(f"DROP TABLE before_{table}")
        transaction.set_rollback(not keep)
    return differing


_COMPARED = {
    "billing_rollupquarter": f"team_id, at, subject_id, {_SUMS}",
    "billing_rollupday": f"team_id, split, day, subject_id, {_SUMS}",
    "billing_rolluplate": "team_id, at, entry_id",
}


def _differences(cursor: Any, table: str, columns: str) -> Iterator[str]:
    for name, one, other in (("missing", table, f"before_{table}"), ("too much", f"before_{table}", table)):
        less = f"SELECT {columns} FROM {one} EXCEPT SELECT {columns} FROM {other}"  # noqa: S608
        cursor.execute(f"SELECT count(*), min(d::text) FROM ({less}) AS d")  # noqa: S608
        many, example = cursor.fetchone()
        if many:
            yield f"{table}: {many} rows are {name}, such as {example}"


def _some(through: int) -> int:
    """One batch, in one transaction with the mark; how far it went."""
    with transaction.atomic(), connection.cursor() as cursor:
        if not _mine(cursor):
            return 0
        mark = _mark()
        after, until = mark.through, min(through, mark.through + BATCH)
        if until <= after:
            return 0
        cursor.execute(
            "SELECT team_id, min(at), max(at) FROM billing_ledgerentry WHERE id > %s AND id <= %s GROUP BY team_id",
            [after, until],
        )
        if spans := [_Span(*row) for row in cursor.fetchall()]:
            zones = _kept_zones([span.team_id for span in spans])
            given: dict[str, int | str] = {"after": after, "until": until, "zones": _cut(spans, zones)}
            cursor.execute("SET LOCAL work_mem = '128MB'; SET LOCAL enable_mergejoin = off")  # hashing is far faster
            cursor.execute(ROLL_UP, given)
        RollupMark.objects.update(through=until, turn=F("turn") + 1)
        return until - after


@dataclass(frozen=True, slots=True)
class _Span:
    """From when to when a team has rows."""

    team_id: UUID
    first: datetime
    last: datetime


def _cut(spans: list[_Span], zones: dict[UUID, str]) -> str:
    """Where each team's days begin, over its span; as ROLL_UP takes it."""
    cut: list[dict[str, Any]] = []
    for span in spans:
        zone = zones[span.team_id]
        first = span.first.astimezone(periods.zone_of(zone)).date()
        days = (first + timedelta(days=number) for number in count())
        starts = []
        for day in days:
            start = periods.start_of_day(day, zone)
            if start > span.last:
                break
            starts.append(start)
        cut.append({"team_id": span.team_id, "first": first, "starts": starts})
    return orjson.dumps(cut).decode()


def _kept_zones(team_ids: list[UUID]) -> dict[UUID, str]:
    """Whose midnights their days are cut at: for a team that had no row yet, those of its zone now."""
    found = dict(RollupZone.objects.filter(team__in=team_ids).values_list("team_id", "zone"))
    fresh = [team for team in Team.objects.filter(pk__in=team_ids) if team.pk not in found]
    rows = [RollupZone(team=team, zone=periods.zone_name(team.time_zone)) for team in fresh]
    RollupZone.objects.bulk_create(rows)
    return found | {row.team_id: row.zone for row in rows}


def _moved() -> list[RollupZone]:
    """The teams whose time zone is not the one that their days are cut by."""
    rows = RollupZone.objects.select_related("team").exclude(zone=F("team__time_zone"))
    return [row for row in rows if row.zone != periods.zone_name(row.team.time_zone)]


def _cut_days(row: RollupZone) -> None:
    """The team's days anew, from the quarter hours, by its zone of today."""
    with transaction.atomic(), connection.cursor() as cursor:
        if not _mine(cursor):
            return
        _mark()
        RollupDay.objects.filter(team=row.team_id).delete()
        zone = periods.zone_name(row.team.time_zone)
        cursor.execute(
            "SELECT team_id, min(at), max(at) FROM billing_rollupquarter WHERE team_id = %s GROUP BY 1", [row.team_id]
        )
        if spans := [_Span(*found) for found in cursor.fetchall()]:
            cursor.execute(CUT_DAYS, {"team": row.team_id, "zones": _cut(spans, {row.team_id: zone})})
        RollupZone.objects.filter(pk=row.pk).update(zone=zone)
        RollupMark.objects.update(turn=F("turn") + 1)


def _mine(cursor: Any) -> bool:
    cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_ONE_AT_A_TIME])
    return bool(cursor.fetchone()[0])


def _mark() -> RollupMark:
    """The mark, while the caller has the lock."""
    return RollupMark.objects.get_or_create(pk=1)[0]
