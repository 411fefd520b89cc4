"""Seals the ledger: every committed row comes under a digest of its team's month, in the order of the rows' ids.

It runs beside the calls and takes nothing from them: no lock that a writer waits for, no write to a row. What makes
the order final is `settled_through`: ids are handed out before their transactions commit, so a row with a lower id
could still appear; whoever could bring one is waited for, and what comes later comes under a later seal.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from accounts.models import Team
from billing import chain, periods
from billing.models import ChainSeal, LedgerEntry, SealRun

BATCH = 20_000
PATIENCE_S = 10.0
PAUSE_S = 0.02
_ONE_AT_A_TIME = 0x6C656467

_LAST = "SELECT coalesce(max(id), 0) FROM billing_ledgerentry"
# Whoever has asked for an id of the ledger in a transaction holds this lock on the table until its end.
_WRITERS = """
SELECT DISTINCT virtualtransaction FROM pg_locks
WHERE locktype = 'relation' AND relation = 'billing_ledgerentry'::regclass AND mode = 'RowExclusiveLock'
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
AND pid IS DISTINCT FROM pg_backend_pid()
"""


def seal(*, patience_s: float = PATIENCE_S) -> int:
    """Bring what is committed under seals; how many rows. 0 too when somebody else is at it, or when a writer takes
    longer than `patience_s`: the next run goes on."""
    through = settled_through(patience_s=patience_s)
    return sum(iter(lambda: _seal_some(through), 0)) if through else 0


def settled_through(*, patience_s: float = PATIENCE_S) -> int:
    """An id below and at which no row will appear any more; 0 if that can't be said in time."""
    last = int(_column(_LAST)[0])
    until = time.monotonic() + patience_s
    writers = set(_column(_WRITERS))
    while writers and time.monotonic() < until:
        time.sleep(PAUSE_S)
        writers &= set(_column(_WRITERS))
    return 0 if writers else last


def head(team: Team, month: periods.Month) -> tuple[str, int]:
    """The digest of the month so far and how many rows it covers; before the first seal, the digest of none."""
    last = ChainSeal.objects.filter(team=team, month=month.first).order_by("number").last()
    return (last.digest, last.entries) if last else (chain.genesis(team.pk, str(month)), 0)


def broken() -> Iterator[str]:
    """Go through the whole ledger again: what does not fit its seals, each in words. None: all is as it was sealed."""
    digests: dict[tuple[UUID, date], str] = {}
    counts: dict[tuple[UUID, date], int] = {}
    for row in ChainSeal.objects.select_related("team").order_by("team_id", "month", "number"):
        key, month = (row.team_id, row.month), f"{row.month:%Y-%m}"
        digest = digests.get(key) or chain.genesis(row.team_id, month)
        count = counts.get(key, 0)
        for values in _covered(row):
            digest, count = chain.row_digest(digest, chain.cells(month, values)), count + 1
        if (digest, count) != (row.digest, row.entries):
            rows = f"rows {row.after + 1} to {row.through}"
            yield f"{row.team.slug} {month}: {rows} are not what was sealed on {row.sealed_at:%Y-%m-%d %H:%M}"
        digests[key], counts[key] = row.digest, row.entries  # what follows is judged by itself
    if missing := _unsealed():
        yield f"{missing} rows below the watermark are under no seal"


@dataclass(slots=True)
class _Link:
    """A month's chain as it grows in one run."""

    month: periods.Month
    number: int
    digest: str
    entries: int


def _seal_some(through: int) -> int:
    """One batch, in one transaction with its watermark; how many rows."""
    with transaction.atomic():
        if not _column("SELECT pg_try_advisory_xact_lock(%s)", _ONE_AT_A_TIME)[0]:
            return 0
        after = SealRun.objects.order_by("-through").values_list("through", flat=True).first() or 0
        rows = LedgerEntry.objects.filter(pk__gt=after, pk__lte=through).order_by("pk")
        batch = list(rows.values_list(*chain.FIELDS)[:BATCH])
        if not batch:
            return 0
        until = batch[-1][0] if len(batch) == BATCH else through
        links = _linked(batch)
        ChainSeal.objects.bulk_create([_sealed(team, link, after, until) for (team, _), link in links.items()])
        SealRun.objects.create(through=until)
        return len(batch)


def _linked(batch: list[tuple[Any, ...]]) -> dict[tuple[UUID, date], _Link]:
    month_of = _months({values[3] for values in batch})
    links: dict[tuple[UUID, date], _Link] = {}
    for values in batch:
        team_id, month = values[3], month_of(values[3], values[2])
        link = links.get((team_id, month.first))
        if link is None:
            link = links[team_id, month.first] = _continued(team_id, month)
        link.digest = chain.row_digest(link.digest, chain.cells(str(month), values))
        link.entries += 1
    return links


def _months(team_ids: set[UUID]) -> Callable[[UUID, datetime], periods.Month]:
    """Which month a moment is in, for each team. The last one is remembered, because rows come nearly in order."""
    zones = dict(Team.objects.filter(pk__in=team_ids).values_list("pk", "time_zone"))
    last: dict[UUID, tuple[datetime, datetime, periods.Month]] = {}

    def month_of(team_id: UUID, at: datetime) -> periods.Month:
        known = last.get(team_id)
        if known is None or not known[0] <= at < known[1]:
            month = periods.month_at(at, zones[team_id])
            known = last[team_id] = (month.begins, month.ends, month)
        return known[2]

    return month_of


def _continued(team_id: UUID, month: periods.Month) -> _Link:
    last = ChainSeal.objects.filter(team_id=team_id, month=month.first).order_by("number").last()
    if last is None:
        return _Link(month, 1, chain.genesis(team_id, str(month)), 0)
    return _Link(month, last.number + 1, last.digest, last.entries)


def _sealed(team_id: UUID, link: _Link, after: int, through: int) -> ChainSeal:
    return ChainSeal(
        team_id=team_id,
        month=link.month.first,
        number=link.number,
        begins=link.month.begins,
        ends=link.month.ends,
        after=after,
        through=through,
        entries=link.entries,
        digest=link.digest,
    )


def _covered(seal_row: ChainSeal) -> Iterator[tuple[Any, ...]]:
    rows = LedgerEntry.objects.filter(
        team=seal_row.team_id,
        pk__gt=seal_row.after,
        pk__lte=seal_row.through,
        at__gte=seal_row.begins,
        at__lt=seal_row.ends,
    )
    return iter(rows.order_by("pk").values_list(*chain.FIELDS).iterator(2000))


def _unsealed() -> int:
    """How many rows more or fewer there are below the watermark than the seals cover."""
    watermark = SealRun.objects.order_by("-through").values_list("through", flat=True).first() or 0
    present = LedgerEntry.objects.filter(pk__lte=watermark).count()
    ends = ChainSeal.objects.order_by("team_id", "month", "-number").distinct("team_id", "month")
    return abs(present - sum(ends.values_list("entries", flat=True)))


def _column(sql: str, *params: int) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return [row[0] for row in cursor.fetchall()]
