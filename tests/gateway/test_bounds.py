"""What is held against a budget is never less than what a call can cost, by a real engine's own count."""

from typing import Any

import httpx
import pytest

from billing.models import UsageEvent
from gateway.protocols import anthropic, asked, openai
from tests.gateway.conftest import Gateway
from tests.gateway.engine import KEY, deployed, engine

TOOL = {"name": "a", "input_schema": {"type": "object"}}
BODIES: list[tuple[str, dict[str, Any]]] = [
    ("chat/completions", {}),
    ("chat/completions", {"tools": [{"type": "function", "function": {"name": "a"}}]}),
    ("messages", {}),
    ("messages", {"tools": [TOOL]}),
]


@pytest.mark.parametrize(("path", "more"), BODIES)
def test_a_short_prompt_is_held_with_what_the_template_adds(path: str, more: dict[str, Any]) -> None:
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]} | more
    with engine() as address:
        headers = {"authorization": f"Bearer {KEY}"}
        usage = httpx.post(f"{address}/v1/{path}", json=body, headers=headers, timeout=30).json()["usage"]
    counted = usage.get("prompt_tokens") or usage["input_tokens"] + usage.get("cache_read_input_tokens", 0)
    found = anthropic.check_messages(body) if path == "messages" else openai.check_chat(body)
    assert 25 < counted <= found.most_prompt_tokens


@pytest.mark.parametrize("stream", [False, True])
def test_several_choices_of_an_own_engine_are_refused_because_it_counts_one(gateway: Gateway, stream: bool) -> None:
    with engine() as address:
        deployed(gateway.team, address)
        body = {
            "model": f"{gateway.team.slug}/small",
            "messages": [{"role": "user", "content": "hi"}],
            "n": 2,
            "max_tokens": 5,
            "ignore_eos": True,
            "stream": stream,
        }
        answer = httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=gateway.headers, timeout=30)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "n")
    assert not UsageEvent.objects.exists()


def test_a_body_of_very_many_objects_is_refused_before_it_is_looked_at(gateway: Gateway) -> None:
    parts = b",".join([b"{}"] * (asked.MOST_OBJECTS + 1))
    body = b'{"model": "good", "messages": [%b]}' % parts
    answer = httpx.post(f"{gateway.url}/v1/chat/completions", content=body, headers=gateway.headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "request_too_large")
