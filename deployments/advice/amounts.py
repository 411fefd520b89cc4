"""Large numbers as people write and read them: "2 B", "350 M", "1,200". Pure."""

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal

SCALES = {"": 1, "k": 10**3, "m": 10**6, "million": 10**6, "b": 10**9, "bn": 10**9, "g": 10**9, "billion": 10**9,
          "t": 10**12, "trillion": 10**12}  # fmt: skip
_AMOUNT = re.compile(r"((?:\d{1,16}|\d{1,3}(?:[,_]\d{3})+)(?:\.\d{1,12})?(?:e\d{1,2})?)\s*([a-z]*)", re.ASCII)
_THREE_DIGITS = Context(prec=3, rounding=ROUND_HALF_EVEN)


def read(text: str) -> Decimal:
    """`2 B`, `2e9`, `2,000,000,000` -> 2000000000. Raises ValueError, with words, for anything else.

    A comma parts thousands and nothing else: who writes 1,5 for one and a half is told, not read as 15."""
    found = _AMOUNT.fullmatch(text.strip().lower())
    if found is None or found[2] not in SCALES:
        raise ValueError(f"{text.strip()[:30]!r} is not a number: write it like 2 B, 350 M or 1,200.")
    return Decimal(found[1].replace(",", "").replace("_", "")) * SCALES[found[2]]


def short(amount: Decimal | float) -> str:
    """2000000000 -> 2 B, 356700 -> 357 k, 1.5 -> 1.5: three digits at most."""
    value = _THREE_DIGITS.create_decimal(Decimal(amount))
    for name, size in (("T", 10**12), ("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if value >= size:
            return f"{_plain(value / size)} {name}"
    return _plain(value)


def _plain(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def dollars(amount: Decimal) -> str:
    """$2,780, $86.40, $0.80, $0.036: whole dollars from a hundred on, else cents, or three digits that matter."""
    value = Decimal(amount)
    if abs(value) >= 100:
        return f"${value:,.0f}"
    if value == 0 or abs(value) >= 1 or value == round(value, 2):
        return f"${value:,.2f}"
    return f"${_plain(value.quantize(Decimal(1).scaleb(value.adjusted() - 2)))}"
