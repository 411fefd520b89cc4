"""llmock, a provider that somebody else wrote and that fails on command, behind the unmodified gateway: what broke is
told as an error and billed by what came; what failed before its first byte is tried again and not billed."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from llmock.pytest_plugin import LLMock
from llmock.testing import LLMockServer

from accounts import sealing
from billing.models import Reservation, UsageEvent
from catalog.models import Provider
from tests.gateway.conftest import CLAUDE_PRICES, PRICES, Gateway, offer

pytestmark = pytest.mark.django_db(transaction=True)
ASK: list[Any] = [{"role": "user", "content": "Count to three."}]
OPENAI, CLAUDE = "mocked", "mocked-claude"


@pytest.fixture
def mocked(gateway: Gateway, llmock_server: LLMockServer) -> Iterator[LLMock]:
    handle = LLMock(llmock_server)
    handle.reset()
    for name, wire, prices, upstream in (
        (OPENAI, "openai", PRICES, "gpt-4o"),
        (CLAUDE, "anthropic", CLAUDE_PRICES, "claude-3-5-sonnet-20241022"),
    ):
        base_url = f"{llmock_server.base_url(wire)}/v1" if wire == "anthropic" else llmock_server.base_url(wire)
        row = Provider.objects.create(
            slug=name, name=name, wire=wire, base_url=base_url, sealed_key=sealing.seal("sk-x")
        )
        offer(name, row, prices, upstream_model=upstream)
    yield handle
    handle.reset()


@pytest.mark.parametrize("model", [OPENAI, CLAUDE])
@pytest.mark.parametrize("stream", [False, True])
def test_it_answers_and_the_bill_is_its_own_count(gateway: Gateway, mocked: LLMock, model: str, stream: bool) -> None:
    answer = call(gateway, model, stream=stream)
    assert answer.status_code == 200, answer.text
    assert not stream or answer.text.rstrip().endswith("data: [DONE]")
    event = UsageEvent.objects.get()
    assert event.quality == "measured"
    assert event.cost > 0


@pytest.mark.parametrize("model", [OPENAI, CLAUDE])
def test_a_rate_limit_is_waited_out_and_billed_once(gateway: Gateway, mocked: LLMock, model: str) -> None:
    mocked.rate_limit(times=1, retry_after=1)
    assert call(gateway, model).status_code == 200
    assert len(mocked.requests) == 2
    assert UsageEvent.objects.count() == 1


def test_an_outage_is_told_and_costs_nothing(gateway: Gateway, mocked: LLMock) -> None:
    mocked.outage(status=503)
    answer = call(gateway, OPENAI)
    assert answer.status_code == 503
    assert "retry-after" in answer.headers
    assert not UsageEvent.objects.exists()
    assert not Reservation.objects.filter(state="open").exists()


@pytest.mark.parametrize("model", [OPENAI, CLAUDE])
@pytest.mark.parametrize("fault", ["disconnect", "truncate", "corrupt"])
def test_a_stream_that_breaks_ends_in_an_error_event_and_is_billed_for_what_came(
    gateway: Gateway, mocked: LLMock, model: str, fault: str
) -> None:
    mocked.reply("one two three four five six seven eight nine ten")
    getattr(mocked, fault)(after_chunks=2)
    answer = call(gateway, model, stream=True)
    assert answer.status_code == 200, answer.text
    events = [line for line in answer.text.splitlines() if line.startswith("data: ")]
    assert '"error"' in events[-1]
    assert "[DONE]" not in answer.text
    assert UsageEvent.objects.count() == 1
    assert not Reservation.objects.filter(state="open").exists()


def test_a_context_that_is_too_long_is_the_callers_400(gateway: Gateway, mocked: LLMock) -> None:
    mocked.context_overflow()
    answer = call(gateway, OPENAI)
    assert answer.status_code == 400
    assert not UsageEvent.objects.exists()


def call(gateway: Gateway, model: str, *, stream: bool = False) -> httpx.Response:
    body = {"model": model, "messages": ASK, "max_tokens": 50, "stream": stream}
    return httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=gateway.headers, timeout=30)
