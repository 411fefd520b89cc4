"""Closes months: what a team owes for one becomes an invoice that nothing changes any more.

A month is closed once its grace is over, months in their order. What comes later stands on the next invoice. Closing is
safe to repeat and to run twice at once: one invoice, and the numbers of all invoices follow each other without gaps.
Before it is issued the sums are held against each other; what does not fit is said, and tried again at the next run.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Max, Min, Sum
from django.utils.module_loading import import_string

from accounts.models import Team
from billing import chaining, credits, periods, rating, scope, statements
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
    """Close every month of every team whose grace is over; what was issued, and what could not be, with its reason."""
    upto = 0
    for team in Team.objects.order_by("slug"):
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
    rows = list(statements.rows_of(found))
    if not rows:
        return None
    lines = _lines(found, rows)
    total = rating.add(row.cost for row in rows)
    checks = _checked(team, found, lines=lines, total=total)
    return _issue(team, found, lines=lines, total=total, checks=checks, now=now)


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


def _lines(found: Scope, rows: Iterable[statements.Row]) -> list[Line]:
    """The rows without their days and keys; the month itself first, in it usage, corrections, credits."""
    summed: dict[tuple[object, ...], list[Decimal]] = {}
    for row in rows:
        late = row.day < found.month.first
        key = (late, row.kind, row.path, row.model, row.deployment, row.meter, row.unit_price, row.reason)
        quantity, amount = summed.get(key, [Decimal(0), Decimal(0)])
        summed[key] = [rating.add([quantity, row.quantity]), rating.add([amount, row.cost])]
    order = {"usage": 0, "correction": 1, "credit": 2}
    return [
        _line(key, quantity, amount)
        for key, (quantity, amount) in sorted(
            summed.items(), key=lambda item: (item[0][0], order[str(item[0][1])], *map(str, item[0][2:]))
        )
    ]


def _line(key: tuple[object, ...], quantity: Decimal, amount: Decimal) -> Line:
    late, kind, path, model, deployment, meter, price, reason = key
    return Line(
        late=bool(late),
        kind=str(kind),
        path=str(path),
        model=str(model),
        deployment=str(deployment),
        meter=str(meter),
        unit=METERS[str(meter)].unit if meter in METERS else "",
        quantity=statements.exact(quantity),
        unit_price=statements.exact(Decimal(str(price))),
        amount=statements.exact(amount),
        reason=str(reason),
    )


def _checked(team: Team, found: Scope, *, lines: list[Line], total: Decimal) -> list[dict[str, str]]:
    """What was held against what, in words. Raises NotYet with everything that does not fit."""
    wrong: list[str] = []
    by_sql = found.entries.aggregate(total=Sum("amount"))["total"] or Decimal(0)
    by_line = rating.add(Decimal(line.amount) for line in lines)
    if not total == by_sql == by_line:
        wrong.append(f"the ledger's rows sum to {by_sql}, the statement's to {total}, the lines to {by_line}")
    counter, used = _counted(team, found)
    if counter != used:
        wrong.append(f"the month's counter says {counter}, the ledger {used}")
    held = Reservation.objects.filter(team=team, state=Reservation.State.OPEN, month__lte=found.month.first)
    if waiting := held.count():
        wrong.append(f"calls of the month that are not settled: {waiting}")
    for name in settings.INVOICE_CHECKS:
        wrong += import_string(name)(team, found.begins, found.ends)
    if wrong:
        raise NotYet("; ".join(wrong))
    compute = {"name": "Compute", "says": "the billed seconds equal the replicas' uptime"}
    return [
        {"name": "Rows, statement and lines", "says": f"each sum to {statements.exact(total)}"},
        {"name": "Counter of the month", "says": f"equals the ledger: {statements.exact(counter)} without credits"},
        {"name": "Calls that are not settled", "says": "none"},
        *([compute] if settings.INVOICE_CHECKS else []),
    ]


def _counted(team: Team, found: Scope) -> tuple[Decimal, Decimal]:
    """The counter that budgets are kept by, and what it should be: the ledger of the month without credits."""
    counter = Spend.objects.filter(team=team, month=found.month.first).values_list("settled", flat=True).first()
    rows = LedgerEntry.objects.filter(team=team, at__gte=found.begins, at__lt=found.ends).exclude(kind="credit")
    return counter or Decimal(0), rows.aggregate(total=Sum("amount"))["total"] or Decimal(0)


def _issue(
    team: Team, found: Scope, *, lines: list[Line], total: Decimal, checks: list[dict[str, str]], now: datetime
) -> Invoice:
    """Number it and write it, one at a time over the whole portal; whoever comes second gets the first one's."""
    events = UsageEvent.objects.filter(team=team, started_at__gte=found.begins, started_at__lt=found.ends)
    counts = {"entries": found.entries.count(), "events": events.count()}
    estimated = events.filter(quality="estimated").count()
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
            total=total,
            due=rating.payable(total),
            estimated=estimated,
            lines=[asdict(line) for line in lines],
            checks=checks,
            issued_at=now,
            **counts,
        )
        if wish and wish.emails:
            InvoiceMail.objects.create(invoice=invoice, emails=wish.emails, due_at=now)
        return invoice
