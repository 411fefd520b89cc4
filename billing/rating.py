"""Quantity x price -> money, exactly. Pure; no amount is ever rounded here: what can't be exact is refused."""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Clamped, Context, Decimal, Inexact, InvalidOperation, Overflow

from billing.errors import BadQuantity, UnpricedMeter
from billing.meters import CHARGED_AS, PROMPT, TOKENS_INPUT_CACHED

# Wide enough for any sum of numeric(38,18); an operation that would round raises instead.
EXACT = Context(prec=100, traps=[Inexact, InvalidOperation, Overflow, Clamped])
QUANTITY_DECIMALS, PRICE_DECIMALS = 6, 12
_ROUNDING, _LEAST_PRICE = Context(prec=100), Decimal(1).scaleb(-12)
_NO_PROMPT = Decimal(0)
QUANTITY_LIMIT, PRICE_LIMIT = Decimal(10) ** 15, Decimal(10) ** 5


# Between a meter and the length of prompt that its price is for: "tokens.input>200000".
ABOVE = ">"
# Among a sku's prices: how many percent less this team pays.
DISCOUNT = "discount.percent"


@dataclass(frozen=True, slots=True)
class Line:
    """`quantity` units of `meter` at `unit_price` USD for one unit; `amount` is their exact product in USD. With a
    discount, `list_price` is what the unit price was before it and `discount` its percentage. `uncached_price` is what
    a unit would have cost in the same call, discounted too, had it not been read from a cache."""

    meter: str
    quantity: Decimal
    unit_price: Decimal
    amount: Decimal
    list_price: Decimal | None = None
    discount: Decimal | None = None
    uncached_price: Decimal | None = field(default=None, compare=False)


def rate(quantities: Mapping[str, Decimal], prices: Mapping[str, Decimal]) -> tuple[Line, ...]:
    """One line per meter that was used, in the order given. A quantity of zero gives no line.

    `prices` holds USD for one unit by meter; by `meter>n` what counts instead when the prompt, all classes of input
    together, is longer than n tokens (the highest such n, for the whole call); by DISCOUNT a percentage off all of
    them. A class without a price of its own is charged as the class it belongs to (`CHARGED_AS`). Raises
    UnpricedMeter when nothing says what a meter costs, BadQuantity when a number can't be kept exactly.
    """
    used = {meter: checked(meter, quantity) for meter, quantity in quantities.items() if quantity}
    prompt = prompt_of(used)
    return tuple(
        _line(
            meter, quantity, price_of(meter, prices, prompt=prompt), prices, uncached=_uncached(meter, prices, prompt)
        )
        for meter, quantity in used.items()
    )


def at_most(quantities: Mapping[str, Decimal], prices: Mapping[str, Decimal]) -> Decimal:
    """The most in USD that a call can cost that uses these quantities or less: a shorter prompt may be in a tier
    that costs more."""
    used = {meter: checked(meter, quantity) for meter, quantity in quantities.items() if quantity}
    prompt = prompt_of(used)
    return total(
        _line(meter, quantity, dearest(meter, prices, prompt=prompt), prices) for meter, quantity in used.items()
    )


def prompt_of(quantities: Mapping[str, Decimal]) -> Decimal:
    """The length of the prompt in tokens: all classes of input together."""
    return add(quantity for meter, quantity in quantities.items() if meter in PROMPT)


def total(lines: Iterable[Line]) -> Decimal:
    """The exact sum of the lines in USD."""
    return add(line.amount for line in lines)


def payable(total: Decimal) -> Decimal:
    """What is asked for a sum: whole cents, half to even. The one place where money is rounded."""
    return total.quantize(Decimal("0.01"), rounding=ROUND_HALF_EVEN, context=Context(prec=100))


def add(amounts: Iterable[Decimal]) -> Decimal:
    """The exact sum, whatever its length (Python's own context would round at 28 digits)."""
    result = Decimal(0)
    for amount in amounts:
        result = EXACT.add(result, amount)
    return result


def price_of(meter: str, prices: Mapping[str, Decimal], *, prompt: Decimal = _NO_PROMPT) -> Decimal | None:
    """The list price that a unit of the meter is charged at in a call with a prompt so long; None: nothing says."""
    charged: str | None = meter
    while charged is not None:
        reached = [(above, price) for above, price in tiers(charged, prices) if above < prompt or not above]
        if reached:
            return max(reached)[1]
        charged = CHARGED_AS.get(charged)
    return None


def dearest(meter: str, prices: Mapping[str, Decimal], *, prompt: Decimal) -> Decimal | None:
    """The highest list price for the meter among the calls whose prompt is at most so long."""
    charged: str | None = meter
    while charged is not None:
        if reached := [price for above, price in tiers(charged, prices) if above < prompt or not above]:
            return max(reached)
        charged = CHARGED_AS.get(charged)
    return None


def tiers(meter: str, prices: Mapping[str, Decimal]) -> list[tuple[int, Decimal]]:
    """(length of prompt that it begins above, price) of the meter itself; 0 is its base."""
    found = [(0, prices[meter])] if meter in prices else []
    start = meter + ABOVE
    return found + [(int(name[len(start) :]), price) for name, price in prices.items() if name.startswith(start)]


def discounted(price: Decimal, percent: Decimal) -> Decimal:
    """The price less the percentage, to 12 decimals of a dollar (half to even): the one rounding there is, of a
    price and never of an amount."""
    exact = EXACT.multiply(price, EXACT.divide(EXACT.subtract(Decimal(100), percent), Decimal(100)))
    return exact.quantize(_LEAST_PRICE, rounding=ROUND_HALF_EVEN, context=_ROUNDING)


def checked(name: str, quantity: Decimal) -> Decimal:
    """The quantity, when it is finite, not negative, below 10^15 and has at most six decimals; else BadQuantity."""
    return _checked(name, quantity, decimals=QUANTITY_DECIMALS, limit=QUANTITY_LIMIT)


def _uncached(meter: str, prices: Mapping[str, Decimal], prompt: Decimal) -> Decimal | None:
    if meter != TOKENS_INPUT_CACHED.name:
        return None
    price = price_of(CHARGED_AS[meter], prices, prompt=prompt)
    percent = prices.get(DISCOUNT)
    return discounted(price, percent) if price is not None and percent else price


def _line(
    meter: str,
    quantity: Decimal,
    price: Decimal | None,
    prices: Mapping[str, Decimal],
    *,
    uncached: Decimal | None = None,
) -> Line:
    if price is None:
        raise UnpricedMeter(meter)
    check_price(meter, price)
    percent = prices.get(DISCOUNT)
    if not percent:
        return Line(meter, quantity, price, EXACT.multiply(quantity, price), uncached_price=uncached)
    less = discounted(price, percent)
    return Line(meter, quantity, less, EXACT.multiply(quantity, less), price, percent, uncached)


@functools.lru_cache(maxsize=4096)
def check_price(meter: str, price: Decimal) -> None:
    """Raises BadQuantity for what can't be kept exactly. (Cached: the same few prices come with every call.)"""
    _checked(f"the price of {meter}", price, decimals=PRICE_DECIMALS, limit=PRICE_LIMIT)


def _checked(name: str, number: Decimal, *, decimals: int, limit: Decimal) -> Decimal:
    if not number.is_finite() or not 0 <= number < limit:
        raise BadQuantity(f"{name}: {number} is not a quantity from 0 to {limit:f}")
    exponent = number.as_tuple().exponent
    if int(exponent) < -decimals and number != number.quantize(Decimal(1).scaleb(-decimals), context=Context(prec=100)):
        raise BadQuantity(f"{name}: {number} has more than {decimals} decimals")
    return number
