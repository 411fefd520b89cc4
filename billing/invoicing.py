"""Closes months: what a team owes for one becomes an invoice that nothing changes any more.

A month is closed once its grace is over, months in their order. What comes later stands on the next invoice. Closing is
safe to repeat and to run twice at once: one invoice, and the numbers of all invoices follow each other without gaps.
All teams' months that are due are closed together, with one pass over the ledger. Before they are issued the sums are
held against each other (billing.closing); what does not fit keeps that team's alone open, is said, and tried again.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.db.models import Count, Max, Q
from django.utils import timezone

from accounts.models import Team
from billing import chaining, closing, credits, periods, rating, rollups, scope
from billing.closing import Found
from billing.errors import BillingError, NotYet
from billing.models import CreditGrant, Invoice, InvoiceMail, LedgerEntry, StatementMail, UnclosedMonth, UsageEvent

log = logging.getLogger(__name__)
_NUMBERING = 0x696E766F

TeamMonth = tuple[Team, periods.Month]
Outcome = Invoice | NotYet | None  # None: nothing to bill
_Invoices = Mapping[UUID, list[Invoice]]


def close_due(*, now: datetime) -> Iterator[Invoice | NotYet]:
    """Close every month of every team whose grace is over; what was issued, and what could not be, with its reason. A
    sample team's are left alone: invoices' numbers are for what somebody pays."""
    teams = list(Team.objects.filter(is_sample=False).order_by("slug"))
    waiting = open_months(teams, now=now)
    while waiting:
        due = [(team, waiting[team.pk].pop(0)) for team in teams if team.pk in waiting]
        waiting = {pk: months for pk, months in waiting.items() if months}
        for (team, month), found in zip(due, close_all(due, now=now), strict=True):
            if isinstance(found, NotYet):
                waiting.pop(team.pk, None)  # its later months come after this one
                yield _noted(team, month, found)
            elif found:
                yield found


def close(team: Team, month: periods.Month, *, now: datetime, upto: int = 0) -> Invoice | None:
    """The month's invoice, issued now unless it was before. None: nothing to bill. Raises NotYet."""
    if not Invoice.objects.filter(team=team, month__gte=month.first).exists():
        _check_time(team, month, now=now)
    (found,) = close_all([(team, month)], now=now, upto=upto)
    if isinstance(found, NotYet):
        raise found
    return found


def close_all(months: Sequence[TeamMonth], *, now: datetime, upto: int = 0) -> list[Outcome]:
    """What became of each team's month, in their order; one month of a team. Their grace is over, and the months before
    are closed. `upto`: a watermark taken before."""
    invoices = scope.invoices_of([team for team, _ in months])
    done = _closed(months, invoices)
    open_ = [(team, month) for team, month in months if team.pk not in done]
    written, refused = _use_credits(open_, now=now)
    done |= refused
    open_ = [(team, month) for team, month in open_ if team.pk not in refused]
    try:
        upto = watermark() if open_ and (written or not upto) else upto
    except NotYet as error:
        return [done.get(team.pk, error) for team, _ in months]
    ready = []
    scopes = [scope.to_close(team, month, invoices=invoices.get(team.pk, []), upto=upto) for team, month in open_]
    for found in closing.look(scopes):
        if found.wrong:
            done[found.scope.team_id] = NotYet("; ".join(found.wrong))
        elif found.rows:
            ready.append(found)
    done |= _issue(ready, now=now)
    return [done.get(team.pk) for team, _ in months]


def open_months(teams: Sequence[Team], *, now: datetime) -> dict[UUID, list[periods.Month]]:
    """The months that wait to be closed and whose grace is over, in their order; by team, without those that have
    none."""
    found: dict[UUID, list[periods.Month]] = {}
    ids = [team.pk for team in teams]
    lasts = dict(Invoice.objects.filter(team__in=ids).order_by().values_list("team").annotate(Max("month")))
    firsts = scope.first_rows([pk for pk in ids if pk not in lasts])
    for team in teams:
        if last := lasts.get(team.pk):
            month = periods.Month(last, periods.zone_name(team.time_zone)).after
        elif first := firsts.get(team.pk):
            month = periods.month_at(first, team.time_zone)
        else:
            continue
        while now >= month.ends + grace():
            found.setdefault(team.pk, []).append(month)
            month = month.after
    return found


def grace() -> timedelta:
    return timedelta(hours=settings.INVOICE_GRACE_HOURS)


def watermark() -> int:
    """The last ledger row below which none can appear any more. Raises NotYet when a writer takes too long."""
    settled = chaining.settled_through()
    if not settled and LedgerEntry.objects.exists():
        raise NotYet("the ledger is being written to without a pause; the next run tries again")
    return settled


def _check_time(team: Team, month: periods.Month, *, now: datetime) -> None:
    if now < month.ends + grace():
        raise NotYet(f"{month} is kept open for late events until {month.ends + grace():%Y-%m-%d %H:%M} UTC")
    earlier = [one for one in open_months([team], now=now).get(team.pk, []) if one.first < month.first]
    for one in earlier:
        if scope.of(team, one).entries.exists():
            raise NotYet(f"{one} comes first: it is not closed yet")


def _noted(team: Team, month: periods.Month, error: NotYet) -> NotYet:
    """Said in the log, to who asked, and to the staff."""
    said = NotYet(f"{team.slug} {month}: {error}")
    log.warning("a month is not closed: %s", said)
    UnclosedMonth.objects.update_or_create(
        team=team, month=month.first, defaults={"reason": str(error), "tried_at": timezone.now()}
    )
    return said


def _closed(months: Sequence[TeamMonth], invoices: _Invoices) -> dict[UUID, Outcome]:
    """The invoices of those that have one, and nothing for those that were passed over with nothing in them."""
    found: dict[UUID, Outcome] = {}
    for team, month in months:
        if later := [row for row in invoices.get(team.pk, []) if row.month >= month.first]:
            found[team.pk] = later[0] if later[0].month == month.first else None
    return found


def _use_credits(months: Sequence[TeamMonth], *, now: datetime) -> tuple[bool, dict[UUID, Outcome]]:
    """Whether rows were written, and the teams whose credits can't be used now."""
    having = set(CreditGrant.objects.filter(team__in=[team.pk for team, _ in months]).values_list("team", flat=True))
    written, refused = False, dict[UUID, Outcome]()
    for team, month in months:
        if team.pk in having:
            try:
                written |= bool(credits.apply(team, month, now=now))
            except (BillingError, DatabaseError) as error:
                refused[team.pk] = NotYet(f"its credits can't be used: {error}")
    return written, refused


def _issue(ready: Sequence[Found], *, now: datetime) -> dict[UUID, Outcome]:
    """All at once; where the database refuses one, each by itself."""
    try:
        return _write(ready, now=now) if ready else {}
    except DatabaseError as error:
        if len(ready) == 1:
            log.exception("an invoice of %s can't be written", ready[0].scope.team_slug)
            return {ready[0].scope.team_id: NotYet(f"its invoice can't be written: {error}")}
    return {team: found for one in ready for team, found in _issue([one], now=now).items()}


def _write(ready: Sequence[Found], *, now: datetime) -> dict[UUID, Outcome]:
    """Number and write them, one run at a time over the whole portal; whoever comes second gets the first one's."""
    teams = {team.pk: team for team in Team.objects.filter(pk__in=[one.scope.team_id for one in ready])}
    wishes = {wish.team_id: wish for wish in StatementMail.objects.filter(team__in=teams)}
    estimated = _estimated([one.scope for one in ready])
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_NUMBERING])
        invoices = scope.invoices_of(list(teams.values()))
        done = _closed([(teams[one.scope.team_id], one.scope.month) for one in ready], invoices)
        fresh = []
        for one in (one for one in ready if one.scope.team_id not in done):
            if one.scope.follows(invoices.get(one.scope.team_id, [])):
                fresh.append(one)
            else:
                done[one.scope.team_id] = NotYet("the month before was closed meanwhile")
        last = Invoice.objects.aggregate(last=Max("number"))["last"] or 0
        made = [
            _invoice(
                one,
                number=number,
                address=wishes[one.scope.team_id].address if one.scope.team_id in wishes else "",
                estimated=estimated.get(one.scope.team_id, 0),
                now=now,
            )
            for number, one in enumerate(fresh, last + 1)
        ]
        _keep(made, wishes, now=now)
    return done | {row.team_id: row for row in made}


def _keep(made: list[Invoice], wishes: Mapping[UUID, StatementMail], *, now: datetime) -> None:
    if not made:
        return
    for row in made:
        row.save(force_insert=True)  # one by one is quicker than quoting all lines into arrays
    rollups.note_late(made)
    mailed = [row for row in made if row.team_id in wishes and wishes[row.team_id].emails]
    InvoiceMail.objects.bulk_create(
        InvoiceMail(invoice=row, emails=wishes[row.team_id].emails, due_at=now) for row in mailed
    )
    UnclosedMonth.objects.filter(
        team__in=[row.team_id for row in made], month__lte=max(row.month for row in made)
    ).delete()


def _invoice(one: Found, *, number: int, address: str, estimated: int, now: datetime) -> Invoice:
    found, total, events = one.scope, one.total, one.events
    return Invoice(
        number=number,
        team_id=found.team_id,
        month=found.month.first,
        team_slug=found.team_slug,
        team_name=found.team_name,
        time_zone=found.zone,
        issuer=found.issuer,
        address=address,
        begins=found.begins,
        ends=found.ends,
        own_from=found.own_from,
        late_after=found.late_after,
        upto=found.upto or 0,
        total=total,
        due=rating.payable(total),
        entries=one.entries,
        events=events,
        estimated=min(estimated, events),  # one that came after the watermark is no event of it
        lines=[line.as_dict() for line in one.lines],
        checks=closing.checks(one),
        issued_at=now,
    )


def _estimated(scopes: Sequence[scope.Scope]) -> dict[UUID, int]:
    """Events of each month that are estimated, not measured."""
    wanted = Q()
    for (begins, ends), ids in scope.teams_by_bounds(scopes).items():
        wanted |= Q(team__in=ids, started_at__gte=begins, started_at__lt=ends)
    rows = UsageEvent.objects.filter(wanted, quality="estimated").order_by()
    return dict(rows.values_list("team").annotate(Count("pk")))
