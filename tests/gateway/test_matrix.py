"""Unmodified clients x every kind of upstream x what people do with them, over real sockets."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import llm
import pytest
from django.conf import settings
from langchain_openai import ChatOpenAI
from llm.default_plugins.openai_models import Chat
from pydantic import BaseModel

from billing.models import LedgerEntry, UsageEvent
from tests.gateway.conftest import Gateway
from tests.gateway.engine import deployed, engine
from tests.gateway.test_calls import wait_for

ASK: list[Any] = [{"role": "user", "content": "What is the weather in Paris? Use the tool."}]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "weather", "description": "Of a city.", "parameters": SCHEMA}}
CLAUDE_TOOL: Any = {"name": "weather", "description": "Of a city.", "input_schema": SCHEMA}
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA, "strict": True}}


class Place(BaseModel):
    city: str


@pytest.fixture(scope="module")
def small() -> Iterator[str]:
    with engine() as address:
        yield address


@dataclass
class Upstream:
    """The model's name; how many calls went there; what it metered, where it can say so."""

    gateway: Gateway
    model: str
    metered: Counter[str] | None


@pytest.fixture(params=["openai", "anthropic", "deployment"])
def upstream(request: pytest.FixtureRequest, gateway: Gateway) -> Upstream:
    match request.param:
        case "openai":
            return Upstream(gateway, "good", gateway.provider.metered)
        case "anthropic":
            return Upstream(gateway, "c-good", gateway.claude.metered)
        case _:
            assert settings.SMOLLM2_GGUF
            row = deployed(gateway.team, request.getfixturevalue("small"))
            return Upstream(gateway, row.endpoint_model, None)


def billed_once_each(upstream: Upstream, calls: int) -> None:
    """One measured event per call; the ledger's tokens are what the upstream metered."""
    wait_for(lambda: UsageEvent.objects.count() == calls)
    assert set(UsageEvent.objects.values_list("quality", flat=True)) == {"measured"}
    ledger: Counter[str] = Counter()
    for meter, quantity in LedgerEntry.objects.values_list("meter", "quantity"):
        ledger[meter] += int(quantity)
    if upstream.metered is not None:
        assert ledger == _by_meter(upstream.metered)


def _by_meter(metered: Counter[str]) -> Counter[str]:
    names = {
        "input_tokens": "tokens.input",
        "cache_read_input_tokens": "tokens.input.cached",
        "cache_creation_input_tokens": "tokens.input.cache_write",
        "output_tokens": "tokens.output",
    }
    return Counter({names.get(name, name): count for name, count in metered.items() if count})


def openai_plain(up: Upstream) -> int:
    answer = up.gateway.client.chat.completions.create(model=up.model, messages=ASK, max_tokens=8)
    assert answer.choices[0].message.content
    assert answer.usage
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.model == up.model
    return 1


def openai_stream(up: Upstream) -> int:
    chunks = list(
        up.gateway.client.chat.completions.create(
            model=up.model, messages=ASK, max_tokens=8, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert [chunk.usage for chunk in chunks if chunk.usage][-1].completion_tokens
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] in {"stop", "length"}
    return 1


@pytest.mark.parametrize("stream", [False, True])
def test_openai_tools(upstream: Upstream, stream: bool) -> None:
    client = upstream.gateway.client
    options: Any = {"model": upstream.model, "tools": [TOOL], "max_tokens": 64}
    choice: Any = {"type": "function", "function": {"name": "weather"}}
    if stream:
        call = _gathered(client.chat.completions.create(messages=ASK, tool_choice=choice, stream=True, **options))
    else:
        message = client.chat.completions.create(messages=ASK, tool_choice=choice, **options).choices[0].message
        assert message.tool_calls
        call = message.tool_calls[0].model_dump()
    assert call["function"]["name"] == "weather"
    assert json.loads(call["function"]["arguments"])["city"] in {"Paris", "Rome"}
    turns = [*ASK, {"role": "assistant", "content": None, "tool_calls": [call]}]
    turns.append({"role": "tool", "tool_call_id": call["id"], "content": "Sunny."})
    answer = client.chat.completions.create(messages=turns, model=upstream.model, tools=[TOOL], max_tokens=8)  # type: ignore[list-item]
    assert answer.choices[0].message.content
    billed_once_each(upstream, 2)


def _gathered(stream: Any) -> dict[str, Any]:
    call: dict[str, Any] = {"type": "function", "function": {"arguments": ""}}
    for chunk in stream:
        for part in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
            call["id"] = part.id or call.get("id")
            call["function"]["name"] = part.function.name or call["function"].get("name")
            call["function"]["arguments"] += part.function.arguments or ""
    return call


def openai_structured(up: Upstream) -> int:
    answer = up.gateway.client.chat.completions.create(
        model=up.model, messages=ASK, max_tokens=64, response_format=FORMAT
    )
    assert json.loads(answer.choices[0].message.content or "")["city"] in {"Paris", "Rome"}
    assert answer.choices[0].finish_reason == "stop"
    return 1


def openai_structured_stream(up: Upstream) -> int:
    chunks = up.gateway.client.chat.completions.create(
        model=up.model, messages=ASK, max_tokens=64, response_format=FORMAT, stream=True
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert json.loads(text)["city"] in {"Paris", "Rome"}
    return 1


def responses_plain(up: Upstream) -> int:
    answer = up.gateway.client.responses.create(model=up.model, input="Say hello.", max_output_tokens=8)
    assert answer.output_text
    assert answer.usage
    assert answer.usage.output_tokens
    return 1


def responses_stream(up: Upstream) -> int:
    events = list(up.gateway.client.responses.create(model=up.model, input="Hi.", max_output_tokens=8, stream=True))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert events[-1].type in {"response.completed", "response.incomplete"}
    assert "".join(deltas) == events[-1].response.output_text != ""  # type: ignore[union-attr]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    return 1


def responses_tools(up: Upstream) -> int:
    tool: Any = {"type": "function", "name": "weather", "parameters": SCHEMA, "strict": True}
    create = up.gateway.client.responses.create
    choice: Any = {"type": "function", "name": "weather"}
    first = create(model=up.model, input="Weather in Paris?", tools=[tool], tool_choice=choice, max_output_tokens=64)
    call = first.output[0]
    assert call.type == "function_call"
    turns: Any = [
        {"role": "user", "content": "Weather in Paris?"},
        {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments},
        {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny."},
    ]
    assert create(model=up.model, input=turns, tools=[tool], max_output_tokens=8).output_text
    return 2


def responses_structured(up: Upstream) -> int:
    wanted: Any = {"format": {"type": "json_schema", "name": "place", "schema": SCHEMA, "strict": True}}
    answer = up.gateway.client.responses.create(model=up.model, input="Paris?", text=wanted, max_output_tokens=64)
    assert json.loads(answer.output_text)["city"] in {"Paris", "Rome"}
    return 1


def anthropic_plain(up: Upstream) -> int:
    answer = up.gateway.anthropic.messages.create(model=up.model, messages=ASK, max_tokens=8, system="Be short.")
    assert answer.content[0].type == "text"
    assert answer.content[0].text
    assert answer.usage.output_tokens
    assert answer.model == up.model
    return 1


def anthropic_stream(up: Upstream) -> int:
    with up.gateway.anthropic.messages.stream(model=up.model, messages=ASK, max_tokens=8) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text
    assert final.usage.output_tokens
    assert final.stop_reason in {"end_turn", "max_tokens"}
    return 1


def anthropic_tools(up: Upstream) -> int:
    create = up.gateway.anthropic.messages.create
    forced: Any = {"type": "tool", "name": "weather"}
    first = create(model=up.model, messages=ASK, max_tokens=64, tools=[CLAUDE_TOOL], tool_choice=forced)
    call = next(block for block in first.content if block.type == "tool_use")
    assert first.stop_reason == "tool_use"
    assert call.input["city"] in {"Paris", "Rome"}  # type: ignore[index]
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "Sunny."}
    turns: Any = [
        *ASK,
        {"role": "assistant", "content": [call.model_dump(include={"type", "id", "name", "input"})]},
        {"role": "user", "content": [result]},
    ]
    answer = create(model=up.model, messages=turns, max_tokens=8, tools=[CLAUDE_TOOL])
    assert answer.content
    return 2


def anthropic_tools_stream(up: Upstream) -> int:
    forced: Any = {"type": "tool", "name": "weather"}
    with up.gateway.anthropic.messages.stream(
        model=up.model, messages=ASK, max_tokens=64, tools=[CLAUDE_TOOL], tool_choice=forced
    ) as stream:
        final = stream.get_final_message()
    call = next(block for block in final.content if block.type == "tool_use")
    assert call.input["city"] in {"Paris", "Rome"}  # type: ignore[index]
    return 1


def anthropic_structured(up: Upstream) -> int:
    """Anthropic's clients get structure by forcing a tool."""
    forced: Any = {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}
    answer = up.gateway.anthropic.messages.create(
        model=up.model, messages=ASK, max_tokens=64, tools=[CLAUDE_TOOL], tool_choice=forced
    )
    given = next(block for block in answer.content if block.type == "tool_use").input
    assert set(given) == {"city"}  # type: ignore[call-overload]
    return 1


def _langchain(up: Upstream, **more: Any) -> ChatOpenAI:
    return ChatOpenAI(
        model=up.model, base_url=f"{up.gateway.url}/v1", api_key=up.gateway.key, max_retries=0, max_tokens=64, **more
    )  # type: ignore[arg-type]


def langchain_plain(up: Upstream) -> int:
    answer = _langchain(up).invoke("Say hello.")
    assert answer.content
    assert answer.usage_metadata  # type: ignore[attr-defined]
    return 1


def langchain_stream(up: Upstream) -> int:
    assert "".join(str(chunk.content) for chunk in _langchain(up).stream("Say hello."))
    return 1


def langchain_tools(up: Upstream) -> int:
    answer = _langchain(up).bind_tools([TOOL], tool_choice="weather").invoke("Weather in Paris?")
    assert answer.tool_calls[0]["name"] == "weather"
    return 1


def langchain_structured(up: Upstream) -> int:
    structured = _langchain(up).with_structured_output(Place, method="json_schema")
    found = structured.invoke("Paris?")
    assert isinstance(found, Place)
    assert found.city
    return 1


def _llm(up: Upstream) -> Chat:
    return Chat(
        "modelport", model_name=up.model, api_base=f"{up.gateway.url}/v1", key=up.gateway.key, supports_schema=True,
        supports_tools=True,
    )  # fmt: skip


def llm_plain(up: Upstream) -> int:
    assert _llm(up).prompt("Say hello.", key=up.gateway.key, stream=False, max_tokens=8).text()
    return 1


def llm_stream(up: Upstream) -> int:
    assert "".join(_llm(up).prompt("Say hello.", key=up.gateway.key, stream=True, max_tokens=8))
    return 1


def llm_tools(up: Upstream) -> int:
    def weather(city: str) -> str:
        """Of a city."""
        return f"Sunny in {city}."

    tool = llm.Tool.function(weather)
    response = _llm(up).prompt("Weather in Paris?", tools=[tool], key=up.gateway.key, stream=False, max_tokens=64)
    response.text()
    assert up.metered is None or response.tool_calls()[0].name == "weather"
    return 1


def llm_structured(up: Upstream) -> int:
    response = _llm(up).prompt("Paris?", schema=SCHEMA, key=up.gateway.key, stream=False, max_tokens=64)
    assert json.loads(response.text())["city"] in {"Paris", "Rome"}
    return 1


CASES = [
    openai_plain, openai_stream, openai_structured, openai_structured_stream, responses_plain, responses_stream,
    responses_tools, responses_structured, anthropic_plain, anthropic_stream, anthropic_tools, anthropic_tools_stream,
    anthropic_structured, langchain_plain, langchain_stream, langchain_tools, langchain_structured, llm_plain,
    llm_stream, llm_tools, llm_structured,
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_client_works_and_is_billed_once(upstream: Upstream, case: Callable[[Upstream], int]) -> None:
    billed_once_each(upstream, case(upstream))
