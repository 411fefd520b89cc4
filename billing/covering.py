"""How grants cover costs: in the order of time, the grant that expires first before the others.

Each stretch between two grants' starts and ends is covered by the grants that are valid in it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise

from django.db.models import QuerySet, Sum

from billing import rating
from billing.models import CreditGrant, LedgerEntry

NEVER, EVER = datetime.max.replace(tzinfo=UTC), datetime(2000, 1, 1, tzinfo=UTC)
NOTHING = Decimal(0)
Stretch = tuple[datetime, Decimal]  # when it begins, and what it costs


def cover(
    stretches: Iterable[Stretch], grants: Sequence[CreditGrant], *, left: Mapping[int, Decimal], payable: Decimal
) -> dict[int, Decimal]:
    """What is used of each grant, by its pk: never more than is `left` of it, nor `payable` in all. `grants` in their
    order."""
    rest, used = dict(left), dict[int, Decimal]()
    for begin, wanted in stretches:
        cost = min(max(wanted, NOTHING), payable)
        for grant in grants:
            take = min(cost, rest[grant.pk])
            if take <= 0 or not grant.starts_at <= begin < expiry(grant):
                continue
            rest[grant.pk], cost, payable = (less(each, take) for each in (rest[grant.pk], cost, payable))
            used[grant.pk] = rating.add([used.get(grant.pk, NOTHING), take])
    return used


def in_order(grants: Iterable[CreditGrant]) -> list[CreditGrant]:
    return sorted(grants, key=lambda row: (expiry(row), row.starts_at, row.pk))


def expiry(grant: CreditGrant) -> datetime:
    return grant.expires_at or NEVER


def spans(grants: Iterable[CreditGrant], begins: datetime, ends: datetime) -> Iterator[tuple[datetime, datetime]]:
    """[begins, ends) cut wherever a grant starts or expires."""
    turns = {moment for grant in grants for moment in (grant.starts_at, expiry(grant)) if begins < moment < ends}
    return pairwise([begins, *sorted(turns), ends])


def stretches(
    rows: QuerySet[LedgerEntry], grants: Sequence[CreditGrant], begins: datetime, ends: datetime
) -> Iterator[Stretch]:
    for begin, end in spans(grants, begins, ends):
        yield begin, cost(rows.filter(at__gte=begin, at__lt=end))


def cost(rows: QuerySet[LedgerEntry]) -> Decimal:
    """What these rows come to before credits; less than nothing where corrections make it so."""
    return rows.exclude(kind=LedgerEntry.Kind.CREDIT).aggregate(cost=Sum("amount"))["cost"] or NOTHING


def less(amount: Decimal, taken: Decimal) -> Decimal:
    """Their exact difference: Python's own context would round at 28 digits."""
    return rating.EXACT.subtract(amount, taken)
