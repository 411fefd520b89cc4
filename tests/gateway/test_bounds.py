"""What is held against a budget is never less than what a call can cost, by a real engine's own count."""

from typing import Any

import httpx
import pytest

from billing.models import UsageEvent
from gateway.protocols import anthropic, openai
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
    asked = anthropic.check_messages(body) if path == "messages" else openai.check_chat(body)
    assert 25 < counted <= asked.most_prompt_tokens


@pytest.mark.xfail(strict=True, reason="llama.cpp's usage counts one of several choices")
@pytest.mark.parametrize("stream", [False, True])
def test_each_choice_of_an_own_engine_is_billed(gateway: Gateway, stream: bool) -> None:
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
        httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=gateway.headers, timeout=30)
    assert UsageEvent.objects.get().quantities["tokens.output"] == "10"
