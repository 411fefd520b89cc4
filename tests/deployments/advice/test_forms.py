"""What can be filled in, and what not: without a database."""

from decimal import Decimal

import pytest
from django.http import QueryDict

from catalog.models import Hardware
from deployments.advice.forms import AdviceForm
from deployments.advice.traffic import Rhythm


@pytest.mark.parametrize(
    "bad",
    [
        "volume=-1", "volume=NaN", "volume=1e99", "volume=" + "9" * 25, "unit=x", "input=-3", "input=1e3", "cached=101",
        "shape=round", "days=9", "times=96&minutes=1440", "peak=0", "peak=nan", "first_token_ms=inf", "most=99",
        "input=0&output=0", "hour-cpu-small=-1", "reads-cpu-small=5", "price_output=1e30", "idle=1", "volume=%00",
    ],
)  # fmt: skip
def test_what_can_not_be_is_refused(bad: str) -> None:
    form = AdviceForm(QueryDict(bad).dict(), hardware=[Hardware(slug="cpu-small")])
    assert not form.is_valid()


def test_an_empty_address_is_a_whole_question() -> None:
    form = AdviceForm({"model": "x"})
    assert form.is_valid()
    assert form.calls == Decimal(40_000)
    assert form.rhythm == Rhythm(7, 1, 1440)
    assert (form.elastic.idle_window_s, form.wish.accepts_cold) == (600, True)


def test_a_shape_can_be_changed_in_each_of_its_parts() -> None:
    form = AdviceForm({"shape": "bursty", "days": "5", "minutes": "10"})
    assert form.is_valid()
    assert form.rhythm == Rhythm(5, 6, 10)


def test_entered_prices_are_for_one_unit_as_the_price_book_keeps_them() -> None:
    form = AdviceForm({"price_output": "2.78", "hour-h100": "3.6"}, hardware=[Hardware(slug="h100")])
    assert form.is_valid()
    assert form.prices == {"tokens.output": Decimal("0.00000278")}
    assert form.entered("h100").per_second == Decimal("0.001")
