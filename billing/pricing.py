"""The price in force at a moment. Prices are versioned rows: never edited, only followed by a later one."""

from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

from django.db.models import Min, OuterRef, Subquery, Value
from django.db.models.functions import Concat
from django.utils import timezone

from billing import rating
from billing.errors import NoPrice
from billing.meters import TOKENS_INPUT, TOKENS_OUTPUT
from billing.models import Discount, Price

# The tokens of a team's own deployment: counted, and free of charge because its compute is what is billed.
INCLUDED_TOKENS = "included:tokens"
_FREE = {TOKENS_INPUT.name: Decimal(0), TOKENS_OUTPUT.name: Decimal(0)}


def prices_at(sku: str, *, at: datetime | None = None, team_id: UUID | None = None) -> dict[str, Decimal]:
    """What a call is rated with (see rating.rate): USD for one unit by meter and by tier, in force at `at` (now by
    default), and the team's discount. Raises NoPrice when nothing says what this sku costs."""
    if sku == INCLUDED_TOKENS:
        return dict(_FREE)
    moment = at or timezone.now()
    rows = Price.objects.filter(sku=sku, valid_from__lte=moment)
    latest = rows.order_by("meter", "above_tokens", "-valid_from", "-pk").distinct("meter", "above_tokens")
    prices = {tier_name(row.meter, row.above_tokens): row.amount for row in latest}
    if not prices:
        raise NoPrice(sku)
    if team_id is not None and (percent := discount_at(team_id, sku, at=moment)):
        prices[rating.DISCOUNT] = percent
    return prices


def tier_name(meter: str, above_tokens: int) -> str:
    """How rating finds the price of a tier: `tokens.input>200000`; 0 is the meter's own."""
    return f"{meter}{rating.ABOVE}{above_tokens}" if above_tokens else meter


def discount_at(team_id: UUID, sku: str, *, at: datetime) -> Decimal:
    """Percent that the team pays less for this sku at that moment. Of the patterns that fit, the longest counts."""
    return fitting(discounts([team_id], at=at).get(team_id, []), sku)


def discounts(team_ids: Iterable[UUID], *, at: datetime | None = None) -> dict[UUID, list[Discount]]:
    """Those in force by team, for fitting(): in one query."""
    rows = Discount.objects.filter(team__in=list(team_ids), valid_from__lte=at or timezone.now())
    found: dict[UUID, list[Discount]] = {}
    for row in rows.order_by("team", "pattern", "-valid_from", "-pk").distinct("team", "pattern"):
        found.setdefault(row.team_id, []).append(row)
    return found


def fitting(discounts_of_team: Iterable[Discount], sku: str) -> Decimal:
    """Percent off this sku: of the patterns that fit, the longest counts; 0 when none does."""
    found = [row for row in discounts_of_team if _fits(row.pattern, sku)]
    return max(found, key=lambda row: _precision(row.pattern)).percent if found else Decimal(0)


def books_at(skus: Iterable[str], *, at: datetime, team_id: UUID) -> dict[str, tuple[dict[str, Decimal], list[Price]]]:
    """For each sku what prices_at() says, {} where it has no price; and the rows that say so. In two queries."""
    wanted = list(skus)
    rows = Price.objects.filter(sku__in=wanted, valid_from__lte=at)
    latest = rows.order_by("sku", "meter", "above_tokens", "-valid_from", "-pk").distinct(
        "sku", "meter", "above_tokens"
    )
    found: dict[str, list[Price]] = {sku: [] for sku in wanted}
    for row in latest:
        found[row.sku].append(row)
    books = {sku: {tier_name(row.meter, row.above_tokens): row.amount for row in rows} for sku, rows in found.items()}
    own = discounts([team_id], at=at).get(team_id, [])
    for sku in wanted:
        if books[sku] and (percent := fitting(own, sku)):
            books[sku][rating.DISCOUNT] = percent
    return {sku: (books[sku], found[sku]) for sku in wanted}


def in_force(skus: Iterable[str], *, at: datetime | None = None) -> dict[str, dict[str, Price]]:
    """Sku -> meter -> list price for all that have one, below any tier, in one query. A sku without is absent."""
    wanted = list(skus)
    moment = at or timezone.now()
    rows = Price.objects.filter(sku__in=wanted, valid_from__lte=moment, above_tokens=0)
    latest = rows.order_by("sku", "meter", "-valid_from", "-pk").distinct("sku", "meter")
    found: dict[str, dict[str, Price]] = {INCLUDED_TOKENS: _included()} if INCLUDED_TOKENS in wanted else {}
    for price in latest:
        found.setdefault(price.sku, {})[price.meter] = price
    return found


def amount_in_force(prefix: str, key: str, *, meter: str, at: datetime | None = None) -> Subquery:
    """The same amount for each row of another query: of the sku `prefix` and what stands in its column `key`."""
    rows = Price.objects.filter(
        sku=Concat(Value(prefix), OuterRef(key)), meter=meter, above_tokens=0, valid_from__lte=at or timezone.now()
    )
    return Subquery(rows.order_by("-valid_from", "-pk").values("amount")[:1])


def next_change(*, after: datetime) -> datetime | None:
    """When the next price that is known already comes into force; until then in_force() answers the same."""
    return Price.objects.filter(valid_from__gt=after).aggregate(first=Min("valid_from"))["first"]


def set_price(
    sku: str,
    *,
    meter: str,
    amount: Decimal,
    valid_from: datetime,
    source: str,
    source_date: date,
    above_tokens: int = 0,
) -> bool:
    """Let `amount` (USD for one unit) be in force from `valid_from` on. False when it was; never edits a row."""
    same = Price.objects.filter(sku=sku, meter=meter, above_tokens=above_tokens, valid_from__lte=valid_from)
    current = same.order_by("-valid_from", "-pk").first()
    if current is not None and current.amount == amount:
        return False
    Price.objects.create(
        sku=sku,
        meter=meter,
        above_tokens=above_tokens,
        amount=amount,
        valid_from=valid_from,
        source=source[:200],
        source_date=source_date,
    )
    return True


def _precision(pattern: str) -> tuple[int, bool]:
    return len(pattern.removesuffix("*")), not pattern.endswith("*")


def _fits(pattern: str, sku: str) -> bool:
    return sku.startswith(pattern[:-1]) if pattern.endswith("*") else sku == pattern


def _included() -> dict[str, Price]:
    day = datetime(2020, 1, 1, tzinfo=UTC)
    return {
        meter: Price(
            sku=INCLUDED_TOKENS,
            meter=meter,
            amount=amount,
            valid_from=day,
            source="included: the deployment's compute is what is billed",
            source_date=day.date(),
        )
        for meter, amount in _FREE.items()
    }
