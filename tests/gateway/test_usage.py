"""What an upstream reports becomes disjoint classes; what it leaves out is estimated, never nothing."""

from decimal import Decimal

import pytest

from gateway.adapters.platform import PlatformAdapter
from gateway.usage import Tally


def test_a_report_without_output_is_no_measurement() -> None:
    tally = Tally(9)
    for _ in range(20):
        tally.delivered("four")
    tally.openai({"prompt_tokens": 5})
    assert not tally.measured
    assert tally.quantities() == {"tokens.input": Decimal(5), "tokens.output": Decimal(20)}


def test_an_early_report_says_nothing_of_what_came_after() -> None:
    tally = Tally(9)
    tally.openai({"prompt_tokens": 5, "completion_tokens": 0})
    tally.delivered("some text")
    assert not tally.measured
    assert tally.quantities()["tokens.output"] == 2
    tally.openai({"prompt_tokens": 5, "completion_tokens": 3})
    assert tally.measured
    assert tally.quantities()["tokens.output"] == 3


def test_explicit_zero_is_zero() -> None:
    tally = Tally(9)
    tally.openai({"prompt_tokens": 5, "completion_tokens": 0})
    assert tally.measured
    assert tally.quantities()["tokens.output"] == 0


@pytest.mark.parametrize("function", [{"description": "d"}, {"name": None}, {"name": 5}, {}])
def test_a_tool_without_a_name_is_never_forced(function: dict[str, object]) -> None:
    chat = {"messages": [], "tools": [{"type": "function", "function": function}], "tool_choice": "required"}
    adapter = PlatformAdapter()
    assert "tools" in adapter.native_body("chat", chat, max_tokens=None)
    adapter.native_source("chat", chat, Tally(1), "here")


def test_reasoned_and_audio_tokens_are_classes_of_their_own_and_all_classes_are_disjoint() -> None:
    tally = Tally(9)
    details = {"cached_tokens": 30, "audio_tokens": 20}
    tally.openai(
        {
            "prompt_tokens": 100, "completion_tokens": 50, "prompt_tokens_details": details,
            "completion_tokens_details": {"reasoning_tokens": 32, "audio_tokens": 8},
        }
    )  # fmt: skip
    quantities = {meter: int(count) for meter, count in tally.quantities().items() if count}
    assert quantities == {
        "tokens.input": 50, "tokens.input.cached": 30, "tokens.input.audio": 20, "tokens.output": 10,
        "tokens.output.reasoning": 32, "tokens.output.audio": 8,
    }  # fmt: skip
    assert tally.tokens == 150
    tally.delivered("and more")
    assert sum(count for meter, count in tally.estimate().items() if meter.startswith("tokens.output")) == 50
    odd = Tally(9)
    odd.openai({"prompt_tokens": 1, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 9}})
    assert odd.quantities()["tokens.output.reasoning"] == 5, "a class is never more than the whole"
