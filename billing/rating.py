"""Quantity x price -> money, exactly. Pure; no number is ever rounded here: what can't be exact is refused."""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Clamped, Context, Decimal, Inexact, InvalidOperation, Overflow

from billing.errors import BadQuantity, UnpricedMeter
from billing.meters import CHARGED_AS

# Wide enough for any sum of numeric(38,18); an operation that would round raises instead.
EXACT = Context(prec=100, traps=[Inexact, InvalidOperation, Overflow, Clamped])
QUANTITY_DECIMALS, PRICE_DECIMALS = 6, 12
QUANTITY_LIMIT, PRICE_LIMIT = Decimal(10) ** 15, Decimal(10) ** 5


@dataclass(frozen=True, slots=True)
class Line:
    """`quantity` units of `meter` at `unit_price` USD for one unit; `amount` is their exact product in USD."""

    meter: str
    quantity: Decimal
    unit_price: Decimal
    amount: Decimal


def rate(quantities: Mapping[str, Decimal], prices: Mapping[str, Decimal]) -> tuple[Line, ...]:
    """One line per meter that was used, in the order given. A quantity of zero gives no line.

    A class without a price of its own is charged as the class it belongs to (`CHARGED_AS`). Raises UnpricedMeter
    when nothing says what a meter costs, BadQuantity when a number can't be kept exactly.
    """
    return tuple(_line(meter, checked(meter, quantity), prices) for meter, quantity in quantities.items() if quantity)


def total(lines: Iterable[Line]) -> Decimal:
    """The exact sum of the lines in USD."""
    return add(line.amount for line in lines)


def add(amounts: Iterable[Decimal]) -> Decimal:
    """The exact sum, whatever its length (Python's own context would round at 28 digits)."""
    result = Decimal(0)
    for amount in amounts:
        result = EXACT.add(result, amount)
    return result


def price_of(meter: str, prices: Mapping[str, Decimal]) -> Decimal | None:
    """The unit price that a meter is charged at, or None when nothing says."""
    charged: str | None = meter
    while charged is not None and prices.get(charged) is None:
        charged = CHARGED_AS.get(charged)
    return None if charged is None else prices[charged]


def checked(name: str, quantity: Decimal) -> Decimal:
    """The quantity, when it is finite, not negative, below 10^15 and has at most six decimals; else BadQuantity."""
    return _checked(name, quantity, decimals=QUANTITY_DECIMALS, limit=QUANTITY_LIMIT)


def _line(meter: str, quantity: Decimal, prices: Mapping[str, Decimal]) -> Line:
    price = price_of(meter, prices)
    if price is None:
        raise UnpricedMeter(meter)
    _check_price(meter, price)
    return Line(meter, quantity, price, EXACT.multiply(quantity, price))


@functools.lru_cache(maxsize=4096)
def _check_price(meter: str, price: Decimal) -> None:
    """The same few prices come with every call."""
    _checked(f"the price of {meter}", price, decimals=PRICE_DECIMALS, limit=PRICE_LIMIT)


def _checked(name: str, number: Decimal, *, decimals: int, limit: Decimal) -> Decimal:
    if not number.is_finite() or not 0 <= number < limit:
        raise BadQuantity(f"{name}: {number} is not a quantity from 0 to {limit:f}")
    exponent = number.as_tuple().exponent
    if int(exponent) < -decimals and number != number.quantize(Decimal(1).scaleb(-decimals), context=Context(prec=100)):
        raise BadQuantity(f"{name}: {number} has more than {decimals} decimals")
    return number
