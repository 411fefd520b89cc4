"""Which ledger rows stand on a team's statement of a month, and under which names.

An open month: what happened in it, and what of a closed month came too late for that one's invoice. A closed month:
what its invoice covers, under the names of its day, whatever comes or changes later.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any, TypeAlias
from uuid import UUID

from django.conf import settings
from django.db.models import OuterRef, Q, QuerySet, Subquery
from psycopg import sql

from accounts.models import Team
from billing import periods, rollups
from billing.models import Invoice, LedgerEntry

Day: TypeAlias = tuple[date, datetime]  # a day and its first moment
EMPTY = 0  # no ledger row has an id of 0 or less


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Rows of the team with at < `ends` and id <= `upto` (None: all so far) that are at or after `own_from`, or before
    it with an id beyond `late_after` (None: none). `number` is the invoice's, empty while the month is open, and so
    are the `events` of the month and those of them that are `estimated`."""

    team_id: UUID
    team_slug: str
    team_name: str
    issuer: str
    month: periods.Month
    begins: datetime
    ends: datetime
    own_from: datetime | None
    late_after: int | None
    upto: int | None
    number: str = ""
    events: int = 0
    estimated: int = 0

    @property
    def zone(self) -> str:
        return self.month.zone

    @property
    def closed(self) -> bool:
        return self.upto is not None

    @property
    def entries(self) -> QuerySet[LedgerEntry]:
        return entries_of([self])

    @property
    def late(self) -> QuerySet[LedgerEntry]:
        """Those of the rows that happened before the month."""
        return self.entries.filter(at__lt=self.begins)

    def days(self) -> list[Day]:
        """Every day that a row of it can fall on, with its first moment; in order, without gaps."""
        first = self.month.first
        if self.may_be_late and (oldest := self._oldest_late()):
            first = oldest.astimezone(periods.zone_of(self.zone)).date()
        count = (self.month.after.first - first).days
        found = [first + timedelta(days=number) for number in range(count)]
        return [(day, periods.start_of_day(day, self.zone)) for day in found]

    def follows(self, invoices: Sequence[Invoice]) -> bool:
        """Whether it still begins where the last of these, the team's in the order of their months, ended."""
        before = next((one for one in reversed(invoices) if one.month < self.month.first), None)
        return (self.own_from, self.late_after) == ((before.ends, before.upto) if before else (None, None))

    def _oldest_late(self) -> datetime | None:
        """When the oldest row that happened before the month did; perhaps of one that this statement can't see yet."""
        found = self.late.order_by("at").values_list("at", flat=True)
        if self.own_from is None or self.late_after is None:
            return found.first()
        late = rollups.first_late([self.team_id], before=self.own_from, after=self.late_after)
        own = found.filter(at__gte=self.own_from).first()
        return min((moment for moment in (late, own) if moment), default=None)

    @property
    def may_be_late(self) -> bool:
        return self.late_after is not None or self.own_from is None or self.own_from < self.begins

    def branches(self) -> list[sql.Composable]:
        """The rows as conditions on billing_ledgerentry e, which exclude each other; each can use an index."""
        always = [
            sql.SQL("e.team_id = {}").format(sql.Literal(self.team_id)),
            sql.SQL("e.at < {}").format(sql.Literal(self.ends)),
        ]
        if self.upto is not None:
            always.append(sql.SQL("e.id <= {}").format(sql.Literal(self.upto)))
        if self.own_from is None:
            return [sql.SQL(" AND ").join(always)]
        own = sql.SQL("e.at >= {}").format(sql.Literal(self.own_from))
        found: list[sql.Composable] = [sql.SQL(" AND ").join([*always, own])]
        if self.late_after is not None:
            late = sql.SQL("e.at < {} AND e.id > {}").format(sql.Literal(self.own_from), sql.Literal(self.late_after))
            found.insert(0, sql.SQL(" AND ").join([*always, late]))
        return found


def entries_of(scopes: Sequence[Scope]) -> QuerySet[LedgerEntry]:
    """The rows of all these statements, each of another team; to be read in one pass. At least one statement."""
    teams: dict[Q, list[UUID]] = {}
    for one in scopes:
        teams.setdefault(_bounds(one), []).append(one.team_id)
    wanted = [Q(team__in=ids) & bounds for bounds, ids in teams.items()]
    return LedgerEntry.objects.filter(reduce(or_, wanted))


def _bounds(one: Scope) -> Q:
    found = Q(at__lt=one.ends)
    if one.upto is not None:
        found &= Q(id__lte=one.upto)
    if one.own_from is None:
        return found
    own = Q(at__gte=one.own_from)
    return found & (own if one.late_after is None else own | Q(at__lt=one.own_from, id__gt=one.late_after))


def of(team: Team, month: periods.Month) -> Scope:
    """What stands on the team's statement of the month now; for a closed month: for ever."""
    return of_teams([(team, month)])[0]


def of_teams(months: Sequence[tuple[Team, periods.Month]]) -> list[Scope]:
    """The same for many teams, each with its own month, in their order; in one look whatever their number."""
    issued = invoices_of([team for team, _ in months])
    return [_of(team, month, issued.get(team.pk, [])) for team, month in months]


def invoices_of(teams: Sequence[Team]) -> dict[UUID, list[Invoice]]:
    """Each team's, in the order of their months, without their lines."""
    found: dict[UUID, list[Invoice]] = {}
    rows = Invoice.objects.filter(team__in=[team.pk for team in teams]).order_by("month")
    for invoice in rows.defer("lines", "checks", "address"):
        found.setdefault(invoice.team_id, []).append(invoice)
    return found


def _of(team: Team, month: periods.Month, invoices: list[Invoice]) -> Scope:
    """`invoices`: the team's, in the order of their months."""
    if invoice := next((one for one in invoices if one.month == month.first), None):
        return of_invoice(invoice)
    earlier = [one for one in invoices if one.month < month.first]
    return _open(team, month, last=earlier[-1] if earlier else None, passed=len(earlier) < len(invoices))


def _open(team: Team, month: periods.Month, *, last: Invoice | None, passed: bool) -> Scope:
    """Of a month without an invoice. `passed`: a later one has been closed. `last`: the invoice before."""
    facts: dict[str, Any] = {"own_from": month.begins, "late_after": None, "upto": None}
    if passed:
        facts["upto"] = EMPTY  # it was passed over with nothing in it; what comes now stands on a later one
    elif last is not None and _month_of(last).after.first == month.first:
        facts |= {"own_from": last.ends, "late_after": last.upto}
    return Scope(
        team_id=team.pk,
        team_slug=team.slug,
        team_name=team.name,
        issuer=settings.INVOICE_ISSUER,
        month=month,
        begins=month.begins,
        ends=month.ends,
        **facts,
    )


def of_invoice(invoice: Invoice) -> Scope:
    return Scope(
        team_id=invoice.team_id,
        team_slug=invoice.team_slug,
        team_name=invoice.team_name,
        issuer=invoice.issuer,
        month=_month_of(invoice),
        begins=invoice.begins,
        ends=invoice.ends,
        own_from=invoice.own_from,
        late_after=invoice.late_after,
        upto=invoice.upto,
        number=invoice.name,
        events=invoice.events,
        estimated=invoice.estimated,
    )


def teams_by_bounds(scopes: Sequence[Scope]) -> dict[tuple[datetime, datetime], list[UUID]]:
    """Whose months begin and end at these moments."""
    found: dict[tuple[datetime, datetime], list[UUID]] = {}
    for one in scopes:
        found.setdefault((one.begins, one.ends), []).append(one.team_id)
    return found


def first_rows(team_ids: Sequence[UUID]) -> dict[UUID, datetime]:
    """When each team's oldest row of the ledger happened."""
    rows = LedgerEntry.objects.filter(team=OuterRef("pk")).order_by("at").values("at")[:1]
    found = Team.objects.filter(pk__in=team_ids).annotate(first=Subquery(rows)).filter(first__isnull=False)
    return dict(found.values_list("pk", "first"))


def to_close(team: Team, month: periods.Month, *, invoices: Sequence[Invoice], upto: int) -> Scope:
    """What an invoice for the month would cover if it saw the ledger up to row `upto`. `invoices`: the team's, in the
    order of their months."""
    last = next((one for one in reversed(invoices) if one.month < month.first), None)
    return Scope(
        team_id=team.pk,
        team_slug=team.slug,
        team_name=team.name,
        issuer=settings.INVOICE_ISSUER,
        month=month,
        begins=month.begins,
        ends=month.ends,
        own_from=last.ends if last else None,
        late_after=last.upto if last else None,
        upto=upto,
    )


def _month_of(invoice: Invoice) -> periods.Month:
    return periods.Month(invoice.month, periods.zone_name(invoice.time_zone))
