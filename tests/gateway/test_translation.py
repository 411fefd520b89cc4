"""What was asked in one API's words, in the other's, where the words meet in odd ways."""

from typing import Any

import pytest

from gateway.translation import to_anthropic

ASK = [{"role": "user", "content": "x"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
JSON = {"type": "json_schema", "json_schema": {"name": "j", "schema": {"type": "object"}}}
NAMED = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("more", "kind", "name"),
    [
        ({"tool_choice": "none"}, "none", None),
        ({"tool_choice": "none", "response_format": JSON}, "tool", "json"),
        ({"tool_choice": NAMED, "response_format": JSON}, "tool", "f"),
        ({"response_format": JSON}, "any", None),
        ({"tool_choice": "required"}, "any", None),
    ],
)
def test_which_tool_may_be_called_stays_as_it_was_asked(more: dict[str, Any], kind: str, name: str | None) -> None:
    body = to_anthropic.messages_body({"messages": ASK, "tools": [TOOL], **more}, max_tokens=9)
    assert body["tool_choice"]["type"] == kind
    if name:
        assert name in body["tool_choice"]["name"]


def test_no_flag_stands_beside_a_choice_of_none() -> None:
    chat = {"messages": ASK, "tools": [TOOL], "tool_choice": "none", "parallel_tool_calls": False}
    assert to_anthropic.messages_body(chat, max_tokens=9)["tool_choice"] == {"type": "none"}
