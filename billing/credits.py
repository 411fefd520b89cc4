"""Credits: USD that a team need not pay. A grant lies beside the ledger; what is used of it is a row in it.

When a month is closed, `apply` covers its costs in the order of time: each stretch between two grants' starts and ends
by the grants that are valid in it, the one that expires first before the others. The row's amount is exactly what was
used, so what is left of a grant is what was granted and the sum of its rows, to the last digit.

A month begins for credits where the invoice before ended: the team's midnights may have moved since. What came too
late for that invoice is covered with this month, by the grants of its own time.

Until then credits widen the team's monthly budget: by what the month has used of them so far and by what is left.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

from django.db import transaction
from django.db.models import Q, QuerySet, Sum
from django.utils import timezone

from accounts import audit
from accounts.models import Team
from billing import periods, rating
from billing.errors import BadCorrection
from billing.meters import CREDIT
from billing.models import Budget, CreditGrant, Invoice, LedgerEntry

NEVER, EVER = datetime.max.replace(tzinfo=UTC), datetime(2000, 1, 1, tzinfo=UTC)
_NOTHING = Decimal(0)


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
    """Write what the month uses of the team's credits; safe to repeat: what stands there already counts. The month
    must be over, and those before it must have been done. Raises BadCorrection while it runs."""
    if (now or timezone.now()) < month.ends:
        raise BadCorrection(f"{month} is not over: its credits are used when it is closed.")
    with transaction.atomic():
        Team.objects.select_for_update(no_key=True).get(pk=team.pk)  # one at a time
        last = Invoice.objects.filter(team=team, month__lt=month.first).order_by("-month").first()
        begins = last.ends if last else month.begins
        ledger = LedgerEntry.objects.filter(team=team)
        late = ledger.filter(at__lt=begins, pk__gt=last.upto) if last else ledger.none()
        done = _used_by_grant(ledger.filter(at__gte=begins, at__lt=month.ends))
        rows = [
            _row(use.grant, month, missing)
            for use in _uses(team, begins, month.ends, month=month, late=late)
            if (missing := _less(use.usd, done.get(use.grant.pk, _NOTHING))) > 0
        ]
        return LedgerEntry.objects.bulk_create(rows)


def used_in(team: Team, month: periods.Month, *, until: datetime | None = None) -> list[Use]:
    """How the month's costs (those that began before `until`) are covered, given what other months have used."""
    ends = min(until or month.ends, month.ends)
    return _uses(team, _begins(team, month), ends, month=month, late=LedgerEntry.objects.none())


def _uses(
    team: Team, begins: datetime, ends: datetime, *, month: periods.Month, late: QuerySet[LedgerEntry]
) -> list[Use]:
    """Of the costs of [begins, ends), and of the `late` rows before."""
    grants = [grant for grant in _grants(team) if grant.starts_at < ends]
    if not grants:
        return []
    others = LedgerEntry.objects.filter(team=team).exclude(at__gte=begins, at__lt=month.ends)
    taken = _used_by_grant(others)
    left = {grant.pk: _less(grant.usd, taken.get(grant.pk, _NOTHING)) for grant in grants}
    used: dict[int, Decimal] = {}
    own = LedgerEntry.objects.filter(team=team, at__gte=begins, at__lt=ends)
    payable = max(rating.add([_cost(late), _cost(own)]), _NOTHING)
    for begin, rows in [*_by_stretch(late, grants, EVER, begins), *_by_stretch(own, grants, begins, ends)]:
        cost = min(max(_cost(rows), _NOTHING), payable)
        for grant in grants:
            take = min(cost, left[grant.pk])
            if take <= 0 or not grant.starts_at <= begin < _expiry(grant):
                continue
            left[grant.pk], cost, payable = (_less(each, take) for each in (left[grant.pk], cost, payable))
            used[grant.pk] = rating.add([used.get(grant.pk, _NOTHING), take])
    return [Use(grant, used[grant.pk]) for grant in grants if grant.pk in used]


def balances(team: Team) -> list[Balance]:
    """All grants of the team, the one that expires first before the others."""
    taken = _used_by_grant(LedgerEntry.objects.filter(team=team))
    return [Balance(row, _less(row.usd, taken.get(row.pk, _NOTHING))) for row in _grants(team)]


def refresh_all(*, now: datetime) -> None:
    """Budgets of all teams that have ever had a credit."""
    for team in Team.objects.filter(pk__in=CreditGrant.objects.values("team")):
        refresh(team, now=now)


def refresh(team: Team, *, now: datetime) -> None:
    """Write onto the team's monthly budget what credits allow on top, and until when that holds without a look."""
    month = periods.month_at(now, team.time_zone)
    used = {use.grant.pk: use.usd for use in used_in(team, month, until=now)}
    usable = [one for one in balances(team) if one.grant.starts_at <= now < _expiry(one.grant)]
    open_ = [_less(one.left, used.get(one.grant.pk, _NOTHING)) for one in usable]
    credit = rating.add([*used.values(), *(max(left, _NOTHING) for left in open_)])
    expiries = [_expiry(one.grant) for one in usable if one.left > 0]
    until = min([month.ends, *expiries]) if credit else None
    rows = Budget.objects.filter(team=team, scope=Budget.Scope.TEAM, period=Budget.Period.MONTHLY)
    rows.exclude(credit_usd=credit, credit_until=until).update(credit_usd=credit, credit_until=until)


def _begins(team: Team, month: periods.Month) -> datetime:
    before = Invoice.objects.filter(team=team, month=month.before.first).values_list("ends", flat=True).first()
    return before or month.begins


def _grants(team: Team) -> list[CreditGrant]:
    rows = CreditGrant.objects.filter(team=team)
    return sorted(rows, key=lambda row: (_expiry(row), row.starts_at, row.pk))


def _expiry(grant: CreditGrant) -> datetime:
    return grant.expires_at or NEVER


def _by_stretch(
    rows: QuerySet[LedgerEntry], grants: Iterable[CreditGrant], begins: datetime, ends: datetime
) -> Iterator[tuple[datetime, QuerySet[LedgerEntry]]]:
    """The rows of [begins, ends) cut wherever a grant starts or expires, each stretch with its beginning."""
    turns = {moment for grant in grants for moment in (grant.starts_at, _expiry(grant)) if begins < moment < ends}
    for begin, end in pairwise([begins, *sorted(turns), ends]):
        yield begin, rows.filter(at__gte=begin, at__lt=end)


def _less(amount: Decimal, taken: Decimal) -> Decimal:
    """Their exact difference: Python's own context would round at 28 digits."""
    return rating.EXACT.subtract(amount, taken)


def _cost(rows: QuerySet[LedgerEntry]) -> Decimal:
    """What these rows come to before credits; less than nothing where corrections make it so."""
    return rows.exclude(kind=LedgerEntry.Kind.CREDIT).aggregate(cost=Sum("amount"))["cost"] or _NOTHING


def _used_by_grant(rows: object) -> dict[int, Decimal]:
    """grant -> USD that these rows of the ledger have used of it."""
    found = rows.filter(Q(credit__isnull=False)).order_by().values_list("credit").annotate(used=Sum("amount"))  # type: ignore[attr-defined]
    return {pk: used.copy_negate() for pk, used in found}


def _row(grant: CreditGrant, month: periods.Month, usd: Decimal) -> LedgerEntry:
    return LedgerEntry(
        team_id=grant.team_id,
        kind=LedgerEntry.Kind.CREDIT,
        at=month.ends - timedelta(microseconds=1),
        sku=CREDIT.name,
        source=grant.name,
        model_name=grant.name,
        meter=CREDIT.name,
        quantity=Decimal(-1),
        unit_price=usd,
        amount=usd.copy_negate(),
        reason=f"Credit {grant.name}"[:200],
        credit=grant,
    )
