"""A refund of usage that a credit had covered is no money that is owed: it is credit again.

Each month that used credits is covered anew, as if what has been refunded since had never been charged. What it would
not have used of a grant is given back to that grant: by a row beside the refund that points at the row of the use. So
of a month that was paid in part, what was paid is owed first, and the rest is credit.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import Q, QuerySet, Sum

from accounts.models import Team
from billing import covering, rating, scope
from billing.covering import EVER, NOTHING, Stretch
from billing.models import CreditGrant, Invoice, LedgerEntry
from billing.scope import Scope

CORRECTION = LedgerEntry.Kind.CORRECTION


@dataclass(frozen=True, slots=True)
class Back:
    """So much USD of what this row of the ledger had used of a grant."""

    use: LedgerEntry
    usd: Decimal


def due(team: Team, *, begins: datetime, ends: datetime) -> list[Back]:
    """What has to be given back for refunds before `ends` of what was invoiced before `begins`, and has not been."""
    refunds = LedgerEntry.objects.filter(team=team, kind=CORRECTION, at__lt=ends, corrects__at__lt=begins)
    uses = LedgerEntry.objects.filter(team=team, credit__isnull=False, corrects=None, at__lt=begins)
    if not (uses.exists() and refunds.exists()):
        return []
    known = list(uses.select_related("credit").annotate(back=Sum("corrections__amount")).order_by("pk"))
    found: list[Back] = []
    for invoice in Invoice.objects.filter(team=team, ends__lte=begins).defer("lines", "checks").order_by("month"):
        own = [row for row in known if invoice.begins <= row.at < invoice.ends and row.pk <= invoice.upto]
        if own:
            found += _of_month(scope.of_invoice(invoice), own, refunds)
    return found


def refunded(refunds: QuerySet[LedgerEntry]) -> QuerySet[LedgerEntry, Any]:
    """The usage that these corrections leave less of than there was: `corrects`, and `net`, which is negative."""
    return refunds.order_by().values("corrects").annotate(net=Sum("amount")).filter(net__lt=0)


def _of_month(one: Scope, uses: Sequence[LedgerEntry], refunds: QuerySet[LedgerEntry]) -> list[Back]:
    left = {use.pk: covering.less(use.amount.copy_negate(), use.back or NOTHING) for use in uses}  # type: ignore[attr-defined]
    grants = covering.in_order({use.credit for use in uses if use.credit})
    used = {grant.pk: rating.add(left[use.pk] for use in uses if use.credit_id == grant.pk) for grant in grants}
    since = refunds.filter(_corrects_on(one), pk__gt=one.upto)
    stretches = _stretches(one, grants, since)
    payable = max(rating.add(cost for _, cost in stretches), NOTHING)
    would = covering.cover(stretches, grants, left=used, payable=payable)
    found = []
    for grant in grants:
        back = covering.less(used[grant.pk], would.get(grant.pk, NOTHING))
        for use in (use for use in uses if use.credit_id == grant.pk):
            part = min(back, left[use.pk])
            if part > 0:
                found.append(Back(use, part))
                back = covering.less(back, part)
    return found


def _stretches(one: Scope, grants: list[CreditGrant], refunds: QuerySet[LedgerEntry]) -> list[Stretch]:
    """The month's costs as they would have been without what was refunded since, at the time of its own usage. What
    had come late for the month before is in front, as when the month was closed."""
    begins = one.own_from or one.begins
    spans = [*covering.spans(grants, begins, one.ends)]
    if one.own_from is not None:
        spans = [*covering.spans(grants, EVER, begins), *spans]
    return [
        (
            begin,
            rating.add(
                [
                    covering.cost(one.entries.filter(at__gte=begin, at__lt=end)),
                    _sum(refunds.filter(corrects__at__gte=begin, corrects__at__lt=end)),
                ]
            ),
        )
        for begin, end in spans
    ]


def _sum(refunds: QuerySet[LedgerEntry]) -> Decimal:
    return refunded(refunds).aggregate(net_sum=Sum("net"))["net_sum"] or NOTHING


def _corrects_on(one: Scope) -> Q:
    """Corrections of rows that stand on this statement."""
    found = Q(corrects__at__lt=one.ends, corrects__lte=one.upto)
    if one.own_from is None:
        return found
    return found & (Q(corrects__at__gte=one.own_from) | Q(corrects__gt=one.late_after))


def by_grant(backs: Iterable[Back]) -> dict[int, Decimal]:
    found: dict[int, Decimal] = {}
    for back in backs:
        assert back.use.credit_id is not None  # noqa: S101 - a use is of a grant
        found[back.use.credit_id] = rating.add([found.get(back.use.credit_id, NOTHING), back.usd])
    return found
