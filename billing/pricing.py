"""The price in force at a moment. Prices are versioned rows: never edited, only followed by a later one."""

from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal

from django.utils import timezone

from billing.errors import NoPrice
from billing.meters import TOKENS_INPUT, TOKENS_OUTPUT
from billing.models import Price

# The tokens of a team's own deployment: counted, and free of charge because its compute is what is billed.
INCLUDED_TOKENS = "included:tokens"
_FREE = {TOKENS_INPUT.name: Decimal(0), TOKENS_OUTPUT.name: Decimal(0)}


def prices_at(sku: str, *, at: datetime | None = None) -> dict[str, Decimal]:
    """Meter -> USD for one unit, in force at `at` (now by default). Raises NoPrice when there is none."""
    found = in_force([sku], at=at).get(sku)
    if not found:
        raise NoPrice(sku)
    return {meter: price.amount for meter, price in found.items()}


def in_force(skus: Iterable[str], *, at: datetime | None = None) -> dict[str, dict[str, Price]]:
    """Sku -> meter -> price for all that have one, in one query. A sku without a price is absent."""
    wanted = list(skus)
    moment = at or timezone.now()
    rows = Price.objects.filter(sku__in=wanted, valid_from__lte=moment)
    latest = rows.order_by("sku", "meter", "-valid_from", "-pk").distinct("sku", "meter")
    found: dict[str, dict[str, Price]] = {INCLUDED_TOKENS: _included()} if INCLUDED_TOKENS in wanted else {}
    for price in latest:
        found.setdefault(price.sku, {})[price.meter] = price
    return found


def set_price(sku: str, *, meter: str, amount: Decimal, valid_from: datetime, source: str, source_date: date) -> bool:
    """Let `amount` (USD for one unit) be in force from `valid_from` on. False when it was; never edits a row."""
    same_meter = Price.objects.filter(sku=sku, meter=meter, valid_from__lte=valid_from)
    current = same_meter.order_by("-valid_from", "-pk").first()
    if current is not None and current.amount == amount:
        return False
    Price.objects.create(
        sku=sku, meter=meter, amount=amount, valid_from=valid_from, source=source[:200], source_date=source_date
    )
    return True


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
