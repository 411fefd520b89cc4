"""Our rating beside genai-prices', on hundreds of usages: the same to the last digit, but for the known differences.

The known differences, each with a test of its own below:
1. A class that has no price of its own: we charge it as the class it belongs to; genai-prices does, too, but for cached
   audio, which has no meter here and is charged as cached input.
2. Prices by the time of day: genai-prices applies them, whatever start date stands beside them; ours hold all day.
3. A price with more than 12 decimals a unit (there are some with a float's dust, 0.13999999999999999 a million) is
   refused here, and an import lists it.
4. What is metered by searches, pages, characters or hours has no meter here and is not imported.
"""

import random
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from genai_prices import data
from genai_prices.types import ModelPrice, Usage

from billing import price_imports, pricing, rating
from billing.errors import BadQuantity

D = Decimal
AT = datetime(2026, 11, 25, 12, tzinfo=UTC)
CLASSES = (
    "tokens.input", "tokens.input.cached", "tokens.input.cache_write", "tokens.input.cache_write_1h",
    "tokens.input.audio", "tokens.output", "tokens.output.audio", "tokens.output.reasoning",
)  # fmt: skip
NO_METER = {
    "web_searches_kcount", "storage_searches_kcount", "audio_hours", "input_audio_hours", "input_document_kpages",
    "input_annotated_document_kpages", "input_mchars", "input_text_messages_kcount", "input_video_mtok",
    "output_video_mtok", "output_image_mtok", "cache_image_read_mtok", "cache_audio_read_mtok", "output_citation_mtok",
}  # fmt: skip


def in_force(name: str, price: ModelPrice) -> dict[str, Decimal]:
    """What an import would make of these prices, as rating takes them."""
    found = price_imports.Found()
    for key, value in vars(price).items():
        if value is not None:
            price_imports._take_genai(found, name, key, value, None)
    return {pricing.tier_name(one.meter, one.above_tokens): one.amount for one in found.prices}


def models() -> Iterator[tuple[str, ModelPrice]]:
    for provider in data.providers:
        for model in provider.models:
            prices = model.get_prices(AT)
            name = f"{provider.id}/{model.id}"
            priced = prices.input_mtok is not None and prices.output_mtok is not None
            if priced and not too_fine(in_force(name, prices)):
                yield name, prices


def too_fine(prices: Mapping[str, Decimal]) -> bool:
    try:
        for meter, price in prices.items():
            rating.check_price(meter, price)
    except BadQuantity:
        return True
    return False


def usage_of(used: Mapping[str, int]) -> Usage:
    """The same usage as genai-prices takes it: its inputs and outputs include their classes."""

    def tokens(*names: str) -> int:
        return sum(used.get(f"tokens.{name}", 0) for name in names)

    given: dict[str, Any] = {
        "input_tokens": sum(count for meter, count in used.items() if meter.startswith("tokens.input")),
        "output_tokens": sum(count for meter, count in used.items() if meter.startswith("tokens.output")),
        "cache_read_tokens": tokens("input.cached"),
        "cache_write_tokens": tokens("input.cache_write", "input.cache_write_1h"),
        "input_audio_tokens": tokens("input.audio"),
        "output_audio_tokens": tokens("output.audio"),
        "cache_audio_read_tokens": 0,
    }  # fmt: skip
    if used.get("tokens.input.cache_write_1h"):
        given["cache_write_1h_tokens"] = tokens("input.cache_write_1h")
    if used.get("tokens.output.reasoning"):
        given["output_reasoning_tokens"] = tokens("output.reasoning")
    return Usage(**given)


def ours(used: Mapping[str, int], prices: Mapping[str, Decimal]) -> Decimal:
    return rating.total(rating.rate({meter: D(count) for meter, count in used.items()}, prices))


def test_hundreds_of_usages_cost_the_same_to_the_last_digit() -> None:
    dice = random.Random(20261125)  # noqa: S311 - not a secret
    compared = tiered = 0
    chosen = list(models())
    dice.shuffle(chosen)
    for name, price in [*chosen[:500], *[one for one in chosen if "Tiered" in repr(one[1])]]:
        prices = in_force(name, price)
        used = {meter: dice.choice([0, 1, 999, dice.randrange(300_000)]) for meter in CLASSES if meter in prices}
        used["tokens.input"] = dice.choice([0, 7, 127_999, 200_000, 200_001, dice.randrange(2_000_000)])
        theirs = price.calc_price(usage_of(used))["total_price"]
        assert ours(used, prices) == theirs, (name, used)
        compared += 1
        tiered += any(rating.ABOVE in meter for meter in prices)
    assert compared > 600
    assert tiered > 100


def test_the_known_differences_are_all_there_are() -> None:
    found = price_imports.read_genai(data.providers)
    assert {one.what for one in found.skipped} == NO_METER | {"a price by the time of day"}
    hours = {one.name for one in found.skipped if "time of day" in one.what}
    fine = {one.name for one in found.prices if too_fine({one.meter: one.amount})}
    assert 0 < len(fine) < 30
    assert hours, "when there are none any more, this difference goes"


def test_a_tier_is_for_all_tokens_of_a_call_whose_whole_prompt_is_longer() -> None:
    prices = {"tokens.input": D("0.001"), "tokens.input>200000": D("0.002"), "tokens.output": D("0.01"),
              "tokens.output>200000": D("0.02"), "tokens.input>500000": D("0.0005")}  # fmt: skip

    def cost(**used: int) -> Decimal:
        return ours({f"tokens.{meter.replace('_', '.')}": count for meter, count in used.items()}, prices)

    assert cost(input=200_000, output=1) == D("200.01")
    assert cost(input=200_001, output=1) == D("400.022")
    assert cost(input=1, input_cached=200_000, output=1) == D("400.022"), "cached tokens lengthen the prompt, too"
    assert cost(input=500_001, output=1) == D("250.0205")
    most = {"tokens.input": D(600_000), "tokens.output": D(1)}
    assert rating.at_most(most, prices) == D("1200.02"), "a shorter prompt could be in a dearer tier"


@pytest.mark.parametrize("seed", range(5))
def test_what_is_held_is_never_less_than_what_it_comes_to(seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311
    for name, price in list(models())[seed::40]:
        prices = in_force(name, price)
        most_in, most_out = dice.randrange(1, 900_000), dice.randrange(1, 50_000)
        held = rating.at_most({"tokens.input": D(most_in), "tokens.output": D(most_out)}, prices)
        used = {"tokens.input": dice.randrange(most_in + 1), "tokens.output": dice.randrange(most_out + 1)}
        assert ours(used, prices) <= held, name


def test_neither_order_nor_batching_of_events_changes_a_total() -> None:
    dice = random.Random(7)  # noqa: S311
    prices = {meter: D(dice.randrange(1, 10**9)).scaleb(-12) for meter in CLASSES} | {rating.DISCOUNT: D("7.77")}
    events = [{meter: D(dice.randrange(10**6)) for meter in dice.sample(CLASSES, 4)} for _ in range(300)]
    costs = [rating.total(rating.rate(event, prices)) for event in events]
    whole = rating.add(costs)
    for _ in range(20):
        dice.shuffle(costs)
        cut = dice.randrange(len(costs))
        assert rating.add([rating.add(costs[:cut]), rating.add(costs[cut:])]) == whole
    summed = {meter: rating.add(event.get(meter, D(0)) for event in events) for meter in CLASSES}
    assert rating.total(rating.rate(summed, prices)) == whole, "without tiers, a class can be summed before it is rated"
