"""What was asked in one API's words, in the other's, where the words meet in odd ways."""

from typing import Any

import pytest

from gateway.translation import message_from_chat, response_from_chat, to_anthropic

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


def _chunk(*calls: dict[str, Any]) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "delta": {"tool_calls": list(calls)}, "finish_reason": None}]}


def _called(name: str, arguments: str, **more: Any) -> dict[str, Any]:
    return {"id": f"call_{name}", "type": "function", "function": {"name": name, "arguments": arguments}, **more}


@pytest.mark.parametrize("indexed", [True, False])
def test_two_calls_in_one_chunk_stay_two(indexed: bool) -> None:
    calls = [_called("f", "{}"), _called("g", '{"a": 1}')]
    if indexed:
        calls = [call | {"index": place} for place, call in enumerate(calls)]
    events = message_from_chat.Events(model="m", prompt_tokens=1)
    said = [*events.of(_chunk(*calls)), *events.end()]
    begun = [event["content_block"]["name"] for event in said if event["type"] == "content_block_start"]
    assert begun == ["f", "g"]
    responses = response_from_chat.Events(model="m", asked={"model": "m", "input": "x"})
    list(responses.of(_chunk(*calls)))
    list(responses.end())
    output = responses.last()["response"]["output"]
    assert [(item["name"], item["arguments"]) for item in output] == [("f", "{}"), ("g", '{"a": 1}')]


def test_calls_that_take_turns_are_refused_and_never_mixed() -> None:
    events = message_from_chat.Events(model="m", prompt_tokens=1)
    list(events.of(_chunk(_called("f", "{", index=0), _called("g", "{", index=1))))
    with pytest.raises(ValueError, match="take turns"):
        list(events.of(_chunk({"index": 0, "function": {"arguments": "}"}})))
