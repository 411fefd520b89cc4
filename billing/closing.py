"""What months that are to be closed are made of, read in one pass over the ledger for all teams, and whether it fits.

A month's lines are the rows of its plain file, put together further by the same expression. What is held against them
was counted apart from the rows: the sums that the charts show, the month's counter, the replicas' uptime.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import BooleanField, Count, ExpressionWrapper, Q, QuerySet, Sum, Value
from django.utils.module_loading import import_string

from billing import rating, rollups, scope, sources, statements
from billing.meters import METERS
from billing.models import LedgerEntry, Reservation, Spend
from billing.scope import Scope
from billing.sources import Asked

_NAMES = ("path", "model_name", "deployment_name", "meter", "unit_price")
BY_LINE = ("kind", *_NAMES, "reason")
_MERE_USAGE = Q(kind="usage", reason="")
_PLACES = {"usage": 0, "correction": 1, "credit": 2}
_TABLE = ("kind", "path", "meter", "unit_price")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of an invoice: all of a month's rows of one kind, thing, meter and price. Numbers are exact decimals as
    texts; `late` lines are of months that were closed before they came."""

    late: bool
    kind: str
    path: str
    model: str
    deployment: str
    meter: str
    unit: str
    quantity: str
    unit_price: str
    amount: str
    reason: str

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _LINE_FIELDS}


_LINE_FIELDS = [field.name for field in fields(Line)]


class Summed(NamedTuple):
    """What becomes a line: the ledger's rows of these names, how many, and the calls among them, each once."""

    late: bool
    kind: str
    path: str
    model_name: str
    deployment_name: str
    meter: str
    unit_price: Decimal
    reason: str
    quantity: Decimal
    amount: Decimal
    entries: int
    calls: int


@dataclass(frozen=True, slots=True)
class Found:
    """One team's month: what it is made of, and in words what was held against it and does not fit."""

    scope: Scope
    rows: list[Summed]
    wrong: list[str]
    counter: Decimal

    @property
    def total(self) -> Decimal:
        return rating.add(row.amount for row in self.rows)

    @property
    def entries(self) -> int:
        return sum(row.entries for row in self.rows)

    @property
    def events(self) -> int:
        """Calls and slices of compute that began in the month and are billed in it."""
        own = [row for row in self.rows if not row.late and row.kind == "usage"]
        return sum(row.entries if row.meter.startswith("compute.") else row.calls for row in own)

    @property
    def counted(self) -> Decimal:
        """What the month's counter counts."""
        return rating.add(row.amount for row in self.rows if not row.late and row.kind != LedgerEntry.Kind.CREDIT)

    @property
    def lines(self) -> list[Line]:
        """The month itself first, in it usage, corrections, credits."""
        return [_line(row) for row in sorted(self.rows, key=lambda row: (row.late, _PLACES[row.kind], row))]


def look(scopes: Sequence[Scope]) -> list[Found]:
    """Each team's month, in their order, with everything that does not fit. Those with no rows are not held against
    anything."""
    if not scopes:
        return []
    rows = _rows(scopes)
    used = [one for one in scopes if one.team_id in rows]
    counters, waiting = _counters(used), _waiting(used)
    shown, elsewhere = _shown(used), _asked_elsewhere(used)
    found = []
    for one in scopes:
        month = Found(one, rows.get(one.team_id, []), [], counters.get((one.team_id, one.month.first), Decimal(0)))
        if month.rows:
            month.wrong.extend(_unlike(month, *shown[one.team_id]))
            if month.counter != month.counted and month.counter != _counted_now(one):
                month.wrong.append(f"the month's counter says {month.counter}, the ledger {month.counted}")
            if calls := waiting.get(one.team_id):
                month.wrong.append(f"calls of the month that are not settled: {calls}")
            month.wrong.extend(elsewhere.get(one.team_id, []))
        found.append(month)
    return found


def checks(month: Found) -> list[dict[str, str]]:
    """What was held against what, in words, for a month in which nothing is wrong."""
    compute = {"name": "Compute", "says": "the billed seconds equal the replicas' uptime"}
    total, counter = statements.exact(month.total), statements.exact(month.counter)
    return [
        {"name": "Ledger, plain file and lines", "says": f"all sum to {total}; each line is quantity x price"},
        {"name": "Charts", "says": f"show {total} too: by model, deployment, key, member, tag, meter and price"},
        {
            "name": "Counter of the month",
            "says": f"equals the ledger: {counter} without credits",
        },
        {"name": "Calls that are not settled", "says": "none"},
        *([compute] if settings.INVOICE_CHECKS else []),
    ]


def _rows(scopes: Sequence[Scope]) -> dict[UUID, list[Summed]]:
    """By team; the one pass over the ledger's rows. The few that are no mere usage are looked up apart: two columns
    less to tell all others apart by."""
    entries = scope.entries_of(scopes).annotate(late=_late(scopes))
    found: dict[UUID, list[Summed]] = {}
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL work_mem = '64MB'")  # one group for each line of all invoices
        for late, team, *values in _grouped(entries.filter(_MERE_USAGE), _NAMES):
            names, sums = values[: len(_NAMES)], values[len(_NAMES) :]
            found.setdefault(team, []).append(Summed._make([late, "usage", *names, "", *sums]))
        for late, team, *values in _grouped(entries.filter(~_MERE_USAGE), BY_LINE):
            found.setdefault(team, []).append(Summed._make([late, *values]))
    return found


def _grouped(entries: "QuerySet[Any, Any]", by: Sequence[str]) -> "QuerySet[Any, Any]":
    return statements.summed(entries, ("late", "team_id", *by)).annotate(called=Sum("calls"))


def _late(scopes: Sequence[Scope]) -> Any:
    """Whether a row happened before its team's month; not asked of each row where none can have."""
    firsts = scope.first_rows([one.team_id for one in scopes if one.own_from is None])
    teams: dict[datetime, list[UUID]] = {}
    for one in scopes:
        first = firsts.get(one.team_id)
        if one.may_be_late and (one.own_from is not None or first is None or first < one.begins):
            teams.setdefault(one.begins, []).append(one.team_id)
    found = Q()
    for begins, ids in teams.items():
        found |= Q(team__in=ids, at__lt=begins)
    return ExpressionWrapper(found, BooleanField()) if teams else Value(False, output_field=BooleanField())


def _line(row: Summed) -> Line:
    return Line(
        late=row.late,
        kind=row.kind,
        path=row.path,
        model=row.model_name,
        deployment=row.deployment_name,
        meter=row.meter,
        unit=METERS[row.meter].unit if row.meter in METERS else "",
        quantity=statements.exact(row.quantity),
        unit_price=statements.exact(row.unit_price),
        amount=statements.exact(row.amount),
        reason=row.reason,
    )


_Sums = dict[tuple[Any, ...], tuple[Decimal, Decimal]]  # names -> quantity and amount


def _shown(scopes: Sequence[Scope]) -> dict[UUID, tuple[_Sums, _Sums]]:
    """What the costs page will show of each month, from the sums that it reads: its table by meter and price, and all
    that stands in the charts of each split."""
    asked = Asked(tuple(sources.parts_of(scopes)), {})
    found: dict[UUID, tuple[_Sums, _Sums]] = {one.team_id: ({}, {}) for one in scopes}
    mark = sources.mark_of(asked) if scopes else None
    for place, names in enumerate((_TABLE, ("split",))):
        rows = sources.summed(asked, grid=sources.NO_GRID, names=("team_id", *names), calls="calls", mark=mark)
        for team, *values in rows:
            *named, quantity, amount, _, _ = values
            found[team][place][tuple(named)] = quantity, amount
    return found


def _unlike(month: Found, table: _Sums, charts: _Sums) -> Iterator[str]:
    """Lines that are not their product, and charts that do not show the lines."""
    if wrong := [row for row in month.rows if not _is_product(row)]:
        yield f"{len(wrong)} lines are not quantity x price, such as {wrong[0].model_name} {wrong[0].meter}"
    yield from _differing(table, _put_together(month.rows, _TABLE))
    (whole,) = _put_together(month.rows, ()).values()
    splits = (rollups.ALL, *rollups.SPLITS.values())
    yield from _differing(charts, {(split,): whole for split in splits})


def _is_product(row: Summed) -> bool:
    return rating.EXACT.multiply(row.quantity, row.unit_price) == row.amount


def _differing(shown: _Sums, lines: _Sums) -> Iterator[str]:
    """The first that differs, in words."""
    nothing, exact = (Decimal(0), Decimal(0)), statements.exact
    for names in (*lines, *(name for name in shown if name not in lines)):
        (quantity, amount), (used, owed) = shown.get(names, nothing), lines.get(names, nothing)
        of = " ".join(exact(name) if isinstance(name, Decimal) else name for name in names)
        if amount != owed:
            yield f"the charts show {exact(amount)} for {of}, the ledger {exact(owed)}"
            return
        if quantity != used:
            yield f"the charts show a quantity of {exact(quantity)} for {of}, the ledger {exact(used)}"
            return


def _put_together(rows: Iterable[Summed], names: tuple[str, ...]) -> _Sums:
    add, found = rating.EXACT.add, dict[tuple[Any, ...], tuple[Decimal, Decimal]]()
    places = [Summed._fields.index(name) for name in names]
    for row in rows:
        key = tuple(row[place] for place in places)
        before = found.get(key)
        both = (row.quantity, row.amount)
        found[key] = both if before is None else (add(before[0], both[0]), add(before[1], both[1]))
    return found


def _counters(scopes: Sequence[Scope]) -> dict[tuple[UUID, Any], Decimal]:
    """What budgets are kept by: the months' costs without credits."""
    rows = Spend.objects.filter(team__in=[one.team_id for one in scopes], month__in={one.month.first for one in scopes})
    return {(team, month): settled for team, month, settled in rows.values_list("team", "month", "settled")}


def _counted_now(found: Scope) -> Decimal:
    """What the counter should say by all rows so far: it also counts what came after the watermark, and what an
    invoice before has billed already when the team has moved to another time zone."""
    rows = LedgerEntry.objects.filter(team=found.team_id, at__gte=found.begins, at__lt=found.ends)
    return rows.exclude(kind=LedgerEntry.Kind.CREDIT).aggregate(total=Sum("amount"))["total"] or Decimal(0)


def _waiting(scopes: Sequence[Scope]) -> dict[UUID, int]:
    """Calls of the months, or of earlier ones, that are not settled."""
    months = {one.team_id: one.month.first for one in scopes}
    rows = Reservation.objects.filter(team__in=list(months), state=Reservation.State.OPEN)
    found: dict[UUID, int] = {}
    for team, month, calls in rows.order_by().values_list("team", "month").annotate(calls=Count("pk")):
        if month <= months[team]:
            found[team] = found.get(team, 0) + calls
    return found


def _asked_elsewhere(scopes: Sequence[Scope]) -> dict[UUID, list[str]]:
    """What INVOICE_CHECKS say, each asked once for all teams of the same bounds."""
    found: dict[UUID, list[str]] = {}
    for name in settings.INVOICE_CHECKS:
        for (begins, ends), ids in scope.teams_by_bounds(scopes).items():
            for team, said in import_string(name)(ids, begins, ends).items():
                found.setdefault(team, []).extend(said)
    return found
