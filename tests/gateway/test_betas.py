"""`anthropic-beta`: what is safe goes on to Anthropic and to nobody else; what is no list is refused."""

from typing import Any

import httpx
import pytest

from gateway.errors import WireError
from gateway.protocols import betas
from tests.gateway.conftest import Gateway

ASK: list[Any] = [{"role": "user", "content": "Count to three."}]
SAFE = "interleaved-thinking-2025-05-14"


@pytest.mark.parametrize(
    ("raw", "sent"),
    [
        (b"", ""),
        (SAFE.encode(), SAFE),
        (f" {SAFE} , claude-code-20250219,,{SAFE}".encode(), f"{SAFE},claude-code-20250219"),
        (b"context-1m-2025-08-07", ""),
        (f"fast-mode-2026-02-01,{SAFE},files-api-2025-04-14,code-execution-2025-05-22".encode(), SAFE),
        (b"interleaved-thinking", ""),
        (b"interleaved-thinking-2025-05-14-fast", ""),
    ],
)
def test_what_is_safe_goes_on_and_the_rest_is_left_out(raw: bytes, sent: str) -> None:
    assert betas.asked(raw) == sent


@pytest.mark.parametrize("raw", [b"a b", b"a\r\nx-evil: 1", b"\xff", b"a;b", b"-a", b"x" * 101, b",".join([b"a"] * 21)])
def test_what_is_no_list_of_names_is_refused(raw: bytes) -> None:
    with pytest.raises(WireError) as told:
        betas.asked(raw)
    assert (told.value.status, told.value.param) == (400, "anthropic-beta")


@pytest.mark.django_db(transaction=True)
def test_they_reach_anthropic_alone(gateway: Gateway) -> None:
    headers = gateway.headers | {"anthropic-beta": f"{SAFE},context-1m-2025-08-07"}

    def ask(path: str, model: str) -> httpx.Response:
        body = {"model": model, "messages": ASK, "max_tokens": 5}
        return httpx.post(f"{gateway.url}/v1/{path}", headers=headers, json=body, timeout=30)

    assert ask("messages", "c-good").status_code == 200
    assert ask("chat/completions", "c-good").status_code == 200
    assert gateway.claude.betas == [SAFE, ""]
    assert ask("messages", "good").status_code == 200
    headers["anthropic-beta"] = "no list"
    refused = ask("messages", "c-good")
    assert (refused.status_code, refused.json()["error"]["type"]) == (400, "invalid_request_error")
    assert len(gateway.claude.calls) == 2
