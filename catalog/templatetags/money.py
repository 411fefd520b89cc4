"""Money for people: the digits that matter; the exact value goes into the title beside it."""

from decimal import ROUND_HALF_EVEN, Decimal

from django import template

register = template.Library()


@register.filter
def usd(amount: Decimal | None) -> str:
    """$5.00, $0.036, $0.000115: two decimals, or three digits that matter when it is smaller than a cent's tenth."""
    if amount is None:
        return "not listed"
    value = Decimal(amount)
    if value < 0:
        return f"-{usd(-value)}"
    if value == 0 or abs(value) >= 1 or value == value.quantize(Decimal("0.01")):
        return f"${value:,.2f}"
    digits = max(2, 2 - value.adjusted())
    short = value.quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_EVEN)
    return f"${short:f}".rstrip("0") if digits > 2 else f"${short:f}"


@register.filter
def tokens(count: int | None) -> str:
    """8192 -> 8 k, 1048576 -> 1 M."""
    if not count:
        return "not listed"
    if count >= 1_000_000:
        return f"{count / 1_000_000:.1f}".rstrip("0").rstrip(".") + " M"
    return (
        f"{count // 1000 if count % 1000 == 0 or count >= 10_000 else count // 1024} k" if count >= 1000 else str(count)
    )
