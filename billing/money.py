"""How money and quantities are written. Display rounds; the exact value is always beside it (hover, CSV, API)."""

from decimal import ROUND_HALF_EVEN, Context, Decimal

from billing.rating import EXACT

_WIDE = Context(prec=100)


def plain(number: Decimal) -> str:
    """Every digit, no exponent, no idle zeros: `0.0000024`."""
    text = format(number.normalize(EXACT), "f")
    return "0" if text == "-0" else text


def dollars(amount: Decimal) -> str:
    """`$1,234.57`; a small amount keeps three digits that matter: `$0.0000024`."""
    sign, size = ("-" if amount < 0 else ""), abs(amount)
    decimals = 2 if size == 0 else max(2, 2 - size.adjusted())
    rounded = size.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_EVEN, context=_WIDE)
    whole, _, part = format(rounded, ",f").partition(".")
    return f"{sign}${whole}.{part[:2]}{part[2:].rstrip('0')}"


def quantity(number: Decimal) -> str:
    """`1,234,567` or `86,399.25`: every digit, grouped."""
    return format(Decimal(plain(number)), ",f")
