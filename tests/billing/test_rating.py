"""Quantity x price, to the last digit."""

import random
from decimal import Decimal
from fractions import Fraction

import pytest

from billing import money, rating
from billing.errors import BadQuantity, UnpricedMeter

D = Decimal


def test_a_line_is_quantity_times_price_exactly() -> None:
    lines = rating.rate({"tokens.input": D(123_456_789)}, {"tokens.input": D("0.000000123456")})
    assert lines[0].amount == D("15.241481342784")
    assert rating.total(lines) == D("15.241481342784")


def test_thousands_of_random_products_and_their_sum_are_exact() -> None:
    dice = random.Random(20261124)  # noqa: S311 - not a secret
    expected, amounts = Fraction(0), []
    for _ in range(5_000):
        quantity = D(dice.randrange(10**21)).scaleb(-6)
        price = D(dice.randrange(1, 10**17)).scaleb(-12)
        for line in rating.rate({"tokens.input": quantity}, {"tokens.input": price}):
            amounts.append(line.amount)
            expected += Fraction(quantity) * Fraction(price)
    assert Fraction(rating.add(amounts)) == expected


def test_a_class_without_a_price_is_charged_as_the_class_it_belongs_to() -> None:
    lines = rating.rate({"tokens.input.cached": D(10)}, {"tokens.input": D("0.5")})
    assert [(line.meter, line.unit_price, line.amount) for line in lines] == [("tokens.input.cached", D("0.5"), D(5))]


def test_a_price_of_its_own_goes_first_even_when_it_is_zero() -> None:
    lines = rating.rate({"tokens.input.cached": D(10)}, {"tokens.input": D("0.5"), "tokens.input.cached": D(0)})
    assert lines[0].amount == 0


def test_zero_gives_no_line() -> None:
    assert rating.rate({"tokens.input": D(0)}, {"tokens.input": D(1)}) == ()


def test_an_unknown_price_is_an_error_and_never_nothing() -> None:
    with pytest.raises(UnpricedMeter, match="for compute"):
        rating.rate({"compute.seconds": D(1)}, {"tokens.input": D(1)})


@pytest.mark.parametrize("quantity", ["-1", "NaN", "Infinity", "0.0000001", "1e15"])
def test_what_cannot_stand_on_a_bill_is_refused(quantity: str) -> None:
    with pytest.raises(BadQuantity):
        rating.rate({"tokens.input": D(quantity)}, {"tokens.input": D(1)})


def test_a_price_with_more_decimals_than_are_kept_is_refused() -> None:
    with pytest.raises(BadQuantity, match="price"):
        rating.rate({"tokens.input": D(1)}, {"tokens.input": D("0.0000000000001")})


@pytest.mark.parametrize(
    ("amount", "plain"),
    [("1E+3", "1000"), ("0.000002400000000000", "0.0000024"), ("0E-18", "0"), ("12.50", "12.5"), ("-1.50", "-1.5")],
)
def test_a_plain_number_has_no_exponent_and_no_idle_zeros(amount: str, plain: str) -> None:
    assert money.plain(D(amount)) == plain


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        ("0", "$0.00"),
        ("1234.567", "$1,234.57"),
        ("0.5", "$0.50"),
        ("0.0123", "$0.0123"),
        ("0.0000024", "$0.0000024"),
        ("0.00000239999", "$0.0000024"),
        ("-3", "-$3.00"),
        ("0.999999", "$1.00"),
    ],
)
def test_dollars_show_the_digits_that_matter(amount: str, shown: str) -> None:
    assert money.dollars(D(amount)) == shown
