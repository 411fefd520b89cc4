"""Credits: USD that a team need not pay. A grant lies beside the ledger; what is used of it is a row in it.

When a month is closed, `apply` covers its costs in the order of time: each stretch between two grants' starts and ends
by the grants that are valid in it, the one that expires first before the others. The row's amount is exactly what was
used, so what is left of a grant is what was granted and the sum of its rows, to the last digit.

A month begins for credits where the invoice before ended: the team's midnights may have moved since. What came too
late for that invoice is covered with this month, by the grants of its own time.

Until then credits widen the team's monthly budget: by what the month has used of them so far and by what is left.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import transaction
from django.db.models import Q, QuerySet, Sum
from django.utils import timezone

from accounts import audit
from accounts.models import Team
from billing import covering, periods, rating, refunds
from billing.covering import NOTHING
from billing.errors import BadCorrection
from billing.meters import CREDIT
from billing.models import Budget, CreditGrant, Invoice, LedgerEntry
from billing.refunds import Back


@dataclass(frozen=True, slots=True)
class Use:
    """So much USD of a grant covers a month's costs."""

    grant: CreditGrant
    usd: Decimal


@dataclass(frozen=True, slots=True)
class Balance:
    """A grant, and what the ledger says is left of it."""

    grant: CreditGrant
    left: Decimal

    @property
    def used(self) -> Decimal:
        return self.grant.usd - self.left


def grant(
    team: Team, *, name: str, usd: Decimal, actor: str, starts_at: datetime | None = None,
    expires_at: datetime | None = None,
) -> CreditGrant:  # fmt: skip
    """The team need not pay `usd` of what it uses from then (now by default) until it expires."""
    with transaction.atomic():
        row = CreditGrant.objects.create(
            team=team, name=name, usd=usd, starts_at=starts_at or timezone.now(), expires_at=expires_at,
            granted_by=actor,
        )  # fmt: skip
        said = {"usd": f"{usd:f}", "starts": row.starts_at, "expires": expires_at or "never"}
        audit.record(team, actor=actor, verb="granted the credit", subject=str(row), after=said)
    refresh(team, now=timezone.now())
    return row


def apply(team: Team, month: periods.Month, *, now: datetime | None = None) -> list[LedgerEntry]:
    """Write what the month uses of the team's credits, and what its refunds give back of them; safe to repeat: what
    stands there already counts. The month must be over, and those before it must have been done. Raises BadCorrection
    while it runs."""
    if (now or timezone.now()) < month.ends:
        raise BadCorrection(f"{month} is not over: its credits are used when it is closed.")
    with transaction.atomic():
        Team.objects.select_for_update(no_key=True).get(pk=team.pk)  # one at a time
        last = Invoice.objects.filter(team=team, month__lt=month.first).order_by("-month").first()
        begins = last.ends if last else month.begins
        ledger = LedgerEntry.objects.filter(team=team)
        late = ledger.filter(at__lt=begins, pk__gt=last.upto) if last else ledger.none()
        backs = refunds.due(team, begins=begins, ends=month.ends)
        given = LedgerEntry.objects.bulk_create(_row_back(back, month) for back in backs)
        done = _used_by_grant(ledger.filter(at__gte=begins, at__lt=month.ends, corrects=None))
        rows = [
            _row(use.grant, month, missing)
            for use in _uses(team, begins, month.ends, month=month, late=late, backs=())
            if (missing := covering.less(use.usd, done.get(use.grant.pk, NOTHING))) > 0
        ]
        return [*given, *LedgerEntry.objects.bulk_create(rows)]


def used_in(team: Team, month: periods.Month, *, until: datetime | None = None) -> list[Use]:
    """How the month's costs (those that began before `until`) are covered, given what other months have used and what
    refunds give back."""
    begins, ends = _begins(team, month), min(until or month.ends, month.ends)
    backs = refunds.due(team, begins=begins, ends=ends)
    return _uses(team, begins, ends, month=month, late=LedgerEntry.objects.none(), backs=backs)


def _uses(
    team: Team, begins: datetime, ends: datetime, *, month: periods.Month, late: QuerySet[LedgerEntry],
    backs: Sequence[Back],
) -> list[Use]:  # fmt: skip
    """Of the costs of [begins, ends), and of the `late` rows before. `backs`: given back and not in the ledger yet."""
    grants = [grant for grant in _grants(team) if grant.starts_at < ends]
    if not grants:
        return []
    whole = LedgerEntry.objects.filter(team=team, at__gte=begins, at__lt=month.ends)
    taken = _used_by_grant(LedgerEntry.objects.filter(team=team).exclude(at__gte=begins, at__lt=month.ends))
    back = _together(refunds.by_grant(backs), _given_back(whole))
    left = {
        grant.pk: rating.add([covering.less(grant.usd, taken.get(grant.pk, NOTHING)), back.get(grant.pk, NOTHING)])
        for grant in grants
    }
    own = LedgerEntry.objects.filter(team=team, at__gte=begins, at__lt=ends)
    payable = max(rating.add([covering.cost(late), covering.cost(own), *back.values()]), NOTHING)
    earlier = own.filter(kind=LedgerEntry.Kind.CORRECTION, corrects__at__lt=begins)
    if earlier.exists():  # what a refund takes from an earlier month leaves this one's own costs as they are
        own = own.exclude(corrects__in=refunds.refunded(earlier).values("corrects"))
    stretches = [
        *covering.stretches(late, grants, covering.EVER, begins),
        *covering.stretches(own, grants, begins, ends),
    ]
    used = covering.cover(stretches, grants, left=left, payable=payable)
    return [Use(grant, used[grant.pk]) for grant in grants if grant.pk in used]


def balances(team: Team) -> list[Balance]:
    """All grants of the team, the one that expires first before the others."""
    taken = _used_by_grant(LedgerEntry.objects.filter(team=team))
    return [Balance(row, covering.less(row.usd, taken.get(row.pk, NOTHING))) for row in _grants(team)]


def refresh_all(*, now: datetime) -> None:
    """Budgets of all teams that have ever had a credit."""
    for team in Team.objects.filter(pk__in=CreditGrant.objects.values("team")):
        refresh(team, now=now)


def refresh(team: Team, *, now: datetime) -> None:
    """Write onto the team's monthly budget what credits allow on top, and until when that holds without a look."""
    month = periods.month_at(now, team.time_zone)
    used = {use.grant.pk: use.usd for use in used_in(team, month, until=now)}
    back = refunds.by_grant(refunds.due(team, begins=_begins(team, month), ends=now))
    usable = [one for one in balances(team) if one.grant.starts_at <= now < covering.expiry(one.grant)]
    lefts = {one.grant: rating.add([one.left, back.get(one.grant.pk, NOTHING)]) for one in usable}
    open_ = [covering.less(left, used.get(grant.pk, NOTHING)) for grant, left in lefts.items()]
    credit = rating.add([*used.values(), *(max(left, NOTHING) for left in open_)])
    expiries = [covering.expiry(grant) for grant, left in lefts.items() if left > 0]
    until = min([month.ends, *expiries]) if credit else None
    rows = Budget.objects.filter(team=team, scope=Budget.Scope.TEAM, period=Budget.Period.MONTHLY)
    rows.exclude(credit_usd=credit, credit_until=until).update(credit_usd=credit, credit_until=until)


def _begins(team: Team, month: periods.Month) -> datetime:
    before = Invoice.objects.filter(team=team, month=month.before.first).values_list("ends", flat=True).first()
    return before or month.begins


def _grants(team: Team) -> list[CreditGrant]:
    return covering.in_order(CreditGrant.objects.filter(team=team))


def _given_back(rows: QuerySet[LedgerEntry]) -> dict[int, Decimal]:
    found = _used_by_grant(rows.filter(corrects__isnull=False))
    return {pk: used.copy_negate() for pk, used in found.items()}


def _together(one: dict[int, Decimal], other: dict[int, Decimal]) -> dict[int, Decimal]:
    return {pk: rating.add([one.get(pk, NOTHING), other.get(pk, NOTHING)]) for pk in {*one, *other}}


def _used_by_grant(rows: object) -> dict[int, Decimal]:
    """grant -> USD that these rows of the ledger have used of it."""
    found = rows.filter(Q(credit__isnull=False)).order_by().values_list("credit").annotate(used=Sum("amount"))  # type: ignore[attr-defined]
    return {pk: used.copy_negate() for pk, used in found}


def _row(grant: CreditGrant, month: periods.Month, usd: Decimal) -> LedgerEntry:
    row = LedgerEntry(team_id=grant.team_id, source=grant.name, model_name=grant.name, credit=grant)
    return _at_the_end(row, month, quantity=Decimal(-1), usd=usd, reason=f"Credit {grant.name}")


def _row_back(back: Back, month: periods.Month) -> LedgerEntry:
    use = back.use
    row = LedgerEntry(
        team_id=use.team_id, source=use.source, model_name=use.model_name, credit=use.credit, corrects=use
    )
    reason = f"Given back of {use.source}: what it had covered in {use.at:%Y-%m} was refunded"
    return _at_the_end(row, month, quantity=Decimal(1), usd=back.usd, reason=reason)


def _at_the_end(row: LedgerEntry, month: periods.Month, *, quantity: Decimal, usd: Decimal, reason: str) -> LedgerEntry:
    """The row as a line of credit in the month's last moment; a `quantity` of -1 takes the dollars off the bill."""
    row.kind, row.at = LedgerEntry.Kind.CREDIT, month.ends - timedelta(microseconds=1)
    row.sku = row.meter = CREDIT.name
    row.quantity, row.unit_price, row.amount = quantity, usd, usd if quantity > 0 else usd.copy_negate()
    row.reason = reason[:200]
    return row
