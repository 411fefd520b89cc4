"""Closes months: what a team owes for one becomes an invoice that nothing changes any more.

A month is closed once its grace is over, months in their order. What comes later stands on the next invoice. Closing is
safe to repeat and to run twice at once: one invoice, and the numbers of all invoices follow each other without gaps.
Before it is issued the sums are held against each other; what does not fit is said, and tried again at the next run.
"""

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count, Max, Min, Q, Sum
from django.utils.module_loading import import_string

from accounts.models import Team
from billing import chaining, credits, periods, rating, rollups, scope, statements
from billing.errors import NotYet
from billing.meters import METERS
from billing.models import Invoice, InvoiceMail, LedgerEntry, Reservation, Spend, StatementMail, UsageEvent
from billing.scope import Scope

log = logging.getLogger(__name__)
_NUMBERING = 0x696E766F


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


def close_due(*, now: datetime) -> Iterator[Invoice | NotYet]:
    """Close every month of every team whose grace is over; what was issued, and what could not be, with its reason. A
    sample team's are left alone: invoices' numbers are for what somebody pays."""
    upto = 0
    for team in Team.objects.filter(is_sample=False).order_by("slug"):
        for month in open_months(team, now=now):
            upto = upto or watermark()
            try:
                if invoice := close(team, month, now=now, upto=upto):
                    yield invoice
            except NotYet as error:
                log.warning("%s %s is not closed: %s", team.slug, month, error)
                yield error
                break


def close(team: Team, month: periods.Month, *, now: datetime, upto: int = 0) -> Invoice | None:
    """The month's invoice, issued now unless it was before. None: nothing to bill. `upto`: a watermark taken before,
    so that many teams need only one. Raises NotYet."""
    if issued := Invoice.objects.filter(team=team, month=month.first).first():
        return issued
    if Invoice.objects.filter(team=team, month__gt=month.first).exists():
        return None
    _check_time(team, month, now=now)
    if credits.apply(team, month, now=now) or not upto:
        upto = watermark()
    found = scope.to_close(team, month, upto=upto)
    sums = _sums(found)
    if not sums.entries:
        return None
    lines, in_files = _lines(found)
    checks = _checked(team, found, lines=lines, sums=sums, in_files=in_files)
    return _issue(team, found, lines=lines, sums=sums, checks=checks, now=now)


def open_months(team: Team, *, now: datetime) -> list[periods.Month]:
    """The months that wait to be closed and whose grace is over, in their order."""
    last = Invoice.objects.filter(team=team).aggregate(last=Max("month"))["last"]
    if last is None:
        first = LedgerEntry.objects.filter(team=team).aggregate(first=Min("at"))["first"]
        if first is None:
            return []
        month = periods.month_at(first, team.time_zone)
    else:
        month = periods.Month(last, periods.zone_name(team.time_zone)).after
    found = []
    while now >= month.ends + grace():
        found.append(month)
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


def measured_share(events: int, estimated: int) -> Decimal:
    """Percent of the events that were measured, not estimated, rounded down to a tenth: only all of them are 100."""
    if not events:
        return Decimal(100)
    return Decimal((events - estimated) * 1000 // events) / 10


def _check_time(team: Team, month: periods.Month, *, now: datetime) -> None:
    if now < month.ends + grace():
        raise NotYet(f"{month} is kept open for late events until {month.ends + grace():%Y-%m-%d %H:%M} UTC")
    earlier = [one for one in open_months(team, now=now) if one.first < month.first]
    for one in earlier:
        if scope.of(team, one).entries.exists():
            raise NotYet(f"{one} comes first: it is not closed yet")


# The rows of the plain file, summed again without their days, keys and sources: the month itself first, in it usage,
# corrections, credits.
_LINES = """
WITH plain AS ({plain})
SELECT number < %s AS late, kind, path, model_name, deployment_name, meter, unit_price, reason, sum(total_quantity),
       sum(cost), sum(entries)
FROM plain GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
ORDER BY 1, CASE kind WHEN 'usage' THEN 0 WHEN 'correction' THEN 1 ELSE 2 END, 2, 3, 4, 5, 6, 7, 8
"""


@dataclass(frozen=True, slots=True)
class _Sums:
    """Of all rows; `counted`: of those that the month's counter counts."""

    total: Decimal
    entries: int
    counted: Decimal


def _sums(found: Scope) -> _Sums:
    """Of the ledger's rows themselves."""
    counted = Q(at__gte=found.begins) & ~Q(kind=LedgerEntry.Kind.CREDIT)
    summed = found.entries.aggregate(
        total=Sum("amount", default=Decimal(0)),
        entries=Count("pk"),
        counted=Sum("amount", filter=counted, default=Decimal(0)),
    )
    return _Sums(**summed)


def _lines(found: Scope) -> tuple[list[Line], int]:
    """The lines, and how many of the ledger's rows the plain file has under its own."""
    days = found.days()
    plain, params = statements.grouped(found, days).query.sql_with_params()
    first = [day for day, _ in days].index(found.month.first) + 1
    with connection.cursor() as cursor:
        cursor.execute(_LINES.format(plain=plain), [*params, first])
        rows = cursor.fetchall()
    return [_line(late, named, quantity, amount) for late, *named, quantity, amount, _ in rows], sum(
        int(row[-1]) for row in rows
    )


def _line(late: bool, named: list[Any], quantity: Decimal, amount: Decimal) -> Line:
    kind, path, model, deployment, meter, price, reason = named
    return Line(
        late=late,
        kind=kind,
        path=path,
        model=model,
        deployment=deployment,
        meter=meter,
        unit=METERS[meter].unit if meter in METERS else "",
        quantity=statements.exact(quantity),
        unit_price=statements.exact(price),
        amount=statements.exact(amount),
        reason=reason,
    )


def _checked(team: Team, found: Scope, *, lines: list[Line], sums: _Sums, in_files: int) -> list[dict[str, str]]:
    """What was held against what, in words. Raises NotYet with everything that does not fit."""
    wrong = apart(lines, total=sums.total, entries=sums.entries, in_files=in_files)
    counter = _counter(team, found)
    if counter != sums.counted and counter != _counted_now(found):
        wrong.append(f"the month's counter says {counter}, the ledger {sums.counted}")
    held = Reservation.objects.filter(team=team, state=Reservation.State.OPEN, month__lte=found.month.first)
    if waiting := held.count():
        wrong.append(f"calls of the month that are not settled: {waiting}")
    for name in settings.INVOICE_CHECKS:
        wrong += import_string(name)(team, found.begins, found.ends)
    if wrong:
        raise NotYet("; ".join(wrong))
    compute = {"name": "Compute", "says": "the billed seconds equal the replicas' uptime"}
    return [
        {
            "name": "Ledger, plain file and lines",
            "says": f"all sum to {statements.exact(sums.total)}; each line is quantity x price",
        },
        {"name": "Counter of the month", "says": f"equals the ledger: {statements.exact(counter)} without credits"},
        {"name": "Calls that are not settled", "says": "none"},
        *([compute] if settings.INVOICE_CHECKS else []),
    ]


def apart(lines: list[Line], *, total: Decimal, entries: int, in_files: int) -> list[str]:
    """Where the lines, which are the plain file's rows summed again, are not the ledger's rows: their sum, how many
    rows of the ledger there are and how many the file has under its own, each line's product."""
    found = []
    by_line = rating.add(Decimal(line.amount) for line in lines)
    if by_line != total:
        found.append(f"the ledger's rows sum to {total}, the plain file's and the lines to {by_line}")
    if in_files != entries:
        found.append(f"the ledger has {entries} rows of the month, the plain file {in_files}")
    if wrong := [line for line in lines if _product(line) != Decimal(line.amount)]:
        found.append(f"{len(wrong)} lines are not quantity x price, such as {wrong[0].model} {wrong[0].meter}")
    return found


def _product(line: Line) -> Decimal:
    return rating.EXACT.multiply(Decimal(line.quantity), Decimal(line.unit_price))


def _counter(team: Team, found: Scope) -> Decimal:
    """What budgets are kept by: the month's costs without credits."""
    counter = Spend.objects.filter(team=team, month=found.month.first).values_list("settled", flat=True).first()
    return counter or Decimal(0)


def _counted_now(found: Scope) -> Decimal:
    """What the counter should say by all rows so far: it also counts what came after the watermark, and what an
    invoice before has billed already when the team has moved to another time zone."""
    rows = LedgerEntry.objects.filter(team=found.team_id, at__gte=found.begins, at__lt=found.ends)
    return rows.exclude(kind=LedgerEntry.Kind.CREDIT).aggregate(total=Sum("amount"))["total"] or Decimal(0)


def _issue(
    team: Team, found: Scope, *, lines: list[Line], sums: _Sums, checks: list[dict[str, str]], now: datetime
) -> Invoice:
    """Number it and write it, one at a time over the whole portal; whoever comes second gets the first one's."""
    events = UsageEvent.objects.filter(team=team, started_at__gte=found.begins, started_at__lt=found.ends)
    counts = {"events": events.count(), "estimated": events.filter(quality="estimated").count()}
    wish = StatementMail.objects.filter(team=team).first()
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_NUMBERING])
        if issued := Invoice.objects.filter(team=team, month=found.month.first).first():
            return issued
        invoice = Invoice.objects.create(
            number=(Invoice.objects.aggregate(last=Max("number"))["last"] or 0) + 1,
            team=team,
            month=found.month.first,
            team_slug=team.slug,
            team_name=team.name,
            time_zone=found.zone,
            issuer=settings.INVOICE_ISSUER,
            address=wish.address if wish else "",
            begins=found.begins,
            ends=found.ends,
            own_from=found.own_from,
            late_after=found.late_after,
            upto=found.upto or 0,
            total=sums.total,
            due=rating.payable(sums.total),
            entries=sums.entries,
            lines=[asdict(line) for line in lines],
            checks=checks,
            issued_at=now,
            **counts,
        )
        rollups.note_late(team.pk, ends=invoice.ends, upto=invoice.upto)
        if wish and wish.emails:
            InvoiceMail.objects.create(invoice=invoice, emails=wish.emails, due_at=now)
        return invoice
