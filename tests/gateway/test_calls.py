"""Calls through a real gateway, with the real SDK, to a provider that behaves or does not."""

import asyncio
import collections
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import httpx
import pytest
from django.db.models import Sum
from openai import APIError, APIStatusError, OpenAI, RateLimitError

from accounts import keys
from billing.models import Budget, LedgerEntry, Reservation, Spend, UsageEvent
from gateway import completions
from gateway.auth import Caller
from gateway.runtime import close_for_this_loop, runtime_for_this_loop
from tests.factories.accounts import TeamFactory
from tests.gateway.conftest import Gateway

ASK: list[Any] = [{"role": "user", "content": "Count to three."}]
COST = Decimal(7) * Decimal("0.000005") + Decimal(4) * Decimal("0.0000005") + Decimal(3) * Decimal("0.000025")


def wait_for(fact: Callable[[], bool], *, seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < end, "not true in time"
        time.sleep(0.05)


def meters() -> dict[str, int]:
    rows = LedgerEntry.objects.values_list("meter").annotate(Sum("quantity"))
    return {meter: int(quantity) for meter, quantity in rows}


def test_a_call_is_billed_per_class_and_says_what_it_cost(gateway: Gateway) -> None:
    raw = gateway.client.chat.completions.with_raw_response.create(model="good", messages=ASK)
    assert raw.parse().model == "good"
    assert Decimal(raw.headers["x-modelport-cost"]) == COST
    assert raw.headers["x-modelport-path"] == "hosted"
    assert raw.headers["x-request-id"] == raw.headers["request-id"]
    assert meters() == {"tokens.input": 7, "tokens.input.cached": 4, "tokens.output": 3}
    event = UsageEvent.objects.get()
    assert (event.cost, event.quality, event.raw_usage["total_tokens"]) == (COST, "measured", 14)
    assert Spend.objects.get().settled == COST


@pytest.mark.parametrize("asked", [True, False])
def test_a_streams_usage_is_always_billed_and_shown_to_those_who_ask(gateway: Gateway, asked: bool) -> None:
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if asked else {}
    chunks = list(gateway.client.chat.completions.create(model="good", messages=ASK, stream=True, **options))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "One two three"
    assert sum(chunk.usage is not None for chunk in chunks) == asked
    assert {chunk.model for chunk in chunks} == {"good"}
    assert UsageEvent.objects.get().cost == COST
    assert gateway.provider.calls[0]["stream_options"] == {"include_usage": True}


def test_the_settlement_is_durable_before_done_goes_out(gateway: Gateway) -> None:
    with httpx.stream(
        "POST",
        f"{gateway.url}/v1/chat/completions",
        json={"model": "good", "messages": ASK, "stream": True},
        headers={"authorization": f"Bearer {gateway.key}"},
    ) as response:
        for line in response.iter_lines():
            if line == "data: [DONE]":
                assert UsageEvent.objects.count() == 1
                return
    pytest.fail("no [DONE]")


@pytest.mark.parametrize("stream", [True, False])
def test_a_missing_usage_is_estimated_and_never_nothing(gateway: Gateway, stream: bool) -> None:
    answer = gateway.client.chat.completions.create(model="no-usage", messages=ASK, stream=stream)
    _ = list(answer) if stream else None
    event = UsageEvent.objects.get()
    assert event.quality == "estimated"
    assert event.cost > 0


def test_a_usage_that_comes_twice_counts_once(gateway: Gateway) -> None:
    list(gateway.client.chat.completions.create(model="twice", messages=ASK, stream=True))
    assert meters() == {"tokens.input": 7, "tokens.input.cached": 4, "tokens.output": 3}


@pytest.mark.parametrize("model", ["cut", "garbage", "no-done"])
def test_a_stream_that_breaks_off_ends_in_an_error_and_bills_what_was_delivered(gateway: Gateway, model: str) -> None:
    with pytest.raises(APIError, match="Fake Provider"):
        list(gateway.client.chat.completions.create(model=model, messages=ASK, stream=True))
    wait_for(lambda: UsageEvent.objects.count() == 1)
    assert UsageEvent.objects.get().cost > 0
    assert not Reservation.objects.filter(state="open").exists()


@pytest.mark.parametrize(("model", "status"), [("busy", 429), ("broken", 502), ("html", 502)])
@pytest.mark.parametrize("stream", [True, False])
def test_a_call_that_fails_before_its_first_byte_is_not_billed(
    gateway: Gateway, model: str, status: int, stream: bool
) -> None:
    with pytest.raises(APIStatusError) as failure:
        gateway.client.chat.completions.create(model=model, messages=ASK, stream=stream)
    assert failure.value.status_code == status
    assert "sk-" not in failure.value.message
    assert failure.value.response.headers.get("retry-after") == ("7" if model == "busy" else None)
    attempts = 1 if model == "busy" else 3  # its retry-after is longer than we wait
    wait_for(lambda: Reservation.objects.filter(state="void").count() == attempts)
    assert Spend.objects.get().held == 0
    assert not UsageEvent.objects.exists()


def test_a_client_that_hangs_up_cancels_the_upstream_and_pays_for_what_came(gateway: Gateway) -> None:
    with httpx.stream(
        "POST",
        f"{gateway.url}/v1/chat/completions",
        json={"model": "endless", "messages": ASK, "stream": True},
        headers={"authorization": f"Bearer {gateway.key}"},
    ) as response:
        lines = response.iter_lines()
        for _ in range(6):
            next(lines)
    wait_for(lambda: gateway.provider.gone == 1)
    wait_for(lambda: UsageEvent.objects.count() == 1)
    event = UsageEvent.objects.get()
    assert event.quality == "estimated"
    assert 3 <= int(event.quantities["tokens.output"]) < 100


async def _dropped(gateway: Gateway) -> None:
    runtime = await runtime_for_this_loop()
    caller = Caller(gateway.team.pk, gateway.team.slug, gateway.team.time_zone, "dropped")
    body = {"model": "endless", "messages": ASK, "stream": True}
    stream: Any = (await completions.chat(runtime, caller, body, "req_dropped")).stream
    await stream.aclose()
    await asyncio.get_running_loop().run_in_executor(None, wait_for, lambda: gateway.provider.gone == 1)
    await close_for_this_loop()


def test_a_stream_that_nobody_begins_to_read_is_cancelled_upstream_and_billed(gateway: Gateway) -> None:
    asyncio.run(_dropped(gateway))
    assert UsageEvent.objects.get().quality == "estimated"


def test_sixty_calls_twenty_at_a_time_leave_a_ledger_equal_to_what_came(gateway: Gateway) -> None:
    client = gateway.client
    with ThreadPoolExecutor(20) as pool:
        usages = list(pool.map(lambda number: _usage(client, number), range(60)))
    total: collections.Counter[str] = collections.Counter()
    for usage in usages:
        total.update(usage)
    assert meters() == dict(total)
    assert Spend.objects.get().settled == LedgerEntry.objects.aggregate(total=Sum("amount"))["total"]
    assert Spend.objects.get().held == 0


def _usage(client: OpenAI, number: int) -> dict[str, int]:
    options: dict[str, Any] = {"model": "good", "messages": ASK}
    if number % 2:
        usage = client.chat.completions.create(**options).usage
    else:
        chunks = client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True})
        usage = [chunk.usage for chunk in chunks if chunk.usage][-1]
    assert usage
    assert usage.prompt_tokens_details
    cached = usage.prompt_tokens_details.cached_tokens or 0
    return {
        "tokens.input": usage.prompt_tokens - cached,
        "tokens.input.cached": cached,
        "tokens.output": usage.completion_tokens,
    }


def test_a_spent_budget_is_refused_and_not_worth_retrying(gateway: Gateway) -> None:
    Budget.objects.create(team=gateway.team, usd=Decimal("0.01"))
    with pytest.raises(RateLimitError) as failure:
        gateway.client.chat.completions.create(model="good", messages=ASK, max_tokens=5000)
    assert failure.value.code == "insufficient_quota"
    assert failure.value.response.headers["x-should-retry"] == "false"
    assert gateway.provider.calls == []


def test_no_price_is_an_error_before_the_call(gateway: Gateway) -> None:
    with pytest.raises(APIStatusError) as failure:
        gateway.client.chat.completions.create(model="no-price", messages=ASK)
    assert (failure.value.status_code, failure.value.code) == (503, "price_unknown")
    assert gateway.provider.calls == []


def test_a_model_without_its_providers_key_says_so_in_plain_words(gateway: Gateway) -> None:
    with pytest.raises(APIStatusError, match="Keyless has no key set on this portal") as failure:
        gateway.client.chat.completions.create(model="no-key", messages=ASK)
    assert failure.value.code == "provider_key_missing"
    assert "no-key" not in {model.id for model in gateway.client.models.list()}


@pytest.mark.parametrize(
    "key",
    ["garbage", "mp_" + "x" * 10_000, "mp_aaaaaaaa_" + "b" * 40, "mp_\u00e9", "mp_%00", "revoked", "sk-1"],
)
def test_every_bad_key_gets_one_answer(gateway: Gateway, key: str) -> None:
    if key == "revoked":
        row, key = keys.issue(gateway.team, name="old")
        keys.revoke(row)
    headers = {b"authorization": f"Bearer {key}".encode("latin-1")}
    answer = httpx.get(f"{gateway.url}/v1/models", headers=headers)
    error = answer.json()["error"]
    assert answer.status_code == 401
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "invalid_api_key", None)
    assert "Incorrect API key" in answer.json()["error"]["message"]


TYPE = "invalid_type"
BAD_BODIES: list[tuple[Any, int, str | None, str | None]] = [
    ("{", 400, None, "invalid_json"),
    ("[]", 400, None, "invalid_json"),
    ({"model": "good"}, 400, "messages", None),
    ({"model": "good", "messages": []}, 400, "messages", None),
    ({"messages": ASK}, 400, "model", None),
    ({"model": "good", "messages": ASK, "max_tokens": 0}, 400, "max_tokens", "invalid_value"),
    ({"model": "good", "messages": ASK, "max_tokens": -1}, 400, "max_tokens", "invalid_value"),
    ({"model": "good", "messages": ASK, "max_tokens": 10**12}, 400, "max_tokens", "invalid_value"),
    ({"model": "good", "messages": ASK, "max_tokens": "ten"}, 400, "max_tokens", "invalid_type"),
    ({"model": "good", "messages": ASK, "temperature": 9}, 400, "temperature", "invalid_value"),
    ({"model": "good", "messages": ASK, "n": 1000}, 400, "n", "invalid_value"),
    ({"model": "good", "messages": ASK, "api_base": "http://x"}, 400, "api_base", "unsupported_parameter"),
    ({"model": "good", "messages": ASK, "api_key": "x"}, 400, "api_key", "unsupported_parameter"),
    ({"model": "good", "messages": ASK, "extra_headers": {}}, 400, "extra_headers", "unsupported_parameter"),
    ({"model": "nothing", "messages": ASK}, 404, "model", "model_not_found"),
    ({"model": "good", "messages": [{"content": "x"}]}, 400, "messages[0]", "invalid_type"),
    (
        {
            "model": "good",
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}]}
            ],
        },
        400,
        "messages[0].content[0]",
        "invalid_url",
    ),
    *(
        ({"model": "good", "messages": [{"role": "user", "content": [part]}]}, 400, "messages[0].content[0]", TYPE)
        for part in ({"type": "text"}, {"type": "text", "text": 5}, {"type": "image_url"},
                     {"type": "image_url", "image_url": {}})
    ),
    *(
        ({"model": "good", "messages": ASK, "tools": [tool]}, 400, "tools[0].function.name", TYPE)
        for tool in ({"type": "function"}, {"type": "function", "function": "x"}, {"function": {"name": 3}})
    ),
    *(
        ({"model": "good", "messages": ASK, "response_format": wanted}, 400, where, TYPE)
        for wanted, where in (
            ("x", "response_format"),
            ({"type": ["x"]}, "response_format"),
            ({"type": "json_schema"}, "response_format.json_schema"),
            ({"type": "json_schema", "json_schema": "x"}, "response_format.json_schema"),
            ({"type": "json_schema", "json_schema": {"name": "x", "schema": "y"}}, "response_format.json_schema"),
        )
    ),
    (
        {"model": "good", "messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}, *ASK]},
        400, "messages[0].tool_calls[0].function.name", TYPE,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "param", "code"), BAD_BODIES)
def test_a_bad_body_gets_a_clear_error_and_no_bill(
    gateway: Gateway, body: Any, status: int, param: str | None, code: str | None
) -> None:
    content = body if isinstance(body, str) else None
    answer = httpx.post(
        f"{gateway.url}/v1/chat/completions",
        content=content,
        json=None if content else body,
        headers={"authorization": f"Bearer {gateway.key}"},
    )
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (status, param, code)
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    assert answer.headers["request-id"] == answer.headers["x-request-id"]
    assert answer.headers["x-request-id"]
    assert not Reservation.objects.exists()


def test_a_context_that_is_too_long_is_told_with_both_numbers(gateway: Gateway) -> None:
    with pytest.raises(APIStatusError, match=r"2048.*5000") as failure:
        gateway.client.chat.completions.create(model="too-long", messages=ASK)
    assert (failure.value.status_code, failure.value.code) == (400, "context_length_exceeded")


def test_a_refusal_with_odd_numbers_in_it_is_no_error_of_ours(gateway: Gateway) -> None:
    with pytest.raises(APIStatusError) as failure:
        gateway.client.chat.completions.create(model="odd", messages=ASK)
    assert (failure.value.status_code, failure.value.code) == (400, "context_length_exceeded")


def test_a_huge_body_is_refused(gateway: Gateway) -> None:
    answer = httpx.post(
        f"{gateway.url}/v1/chat/completions",
        content=b"x" * (10 * 1024 * 1024 + 1),
        headers={"authorization": f"Bearer {gateway.key}"},
        timeout=20,
    )
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"]) == (413, "invalid_request_error", "request_too_large")


def test_another_teams_key_sees_none_of_our_spend(gateway: Gateway) -> None:
    gateway.client.chat.completions.create(model="good", messages=ASK)
    other = TeamFactory()
    assert not LedgerEntry.objects.filter(team=other).exists()
    assert LedgerEntry.objects.filter(team=gateway.team).count() == 3


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/nothing", 404), ("GET", "/v1/chat/completions", 405)]
)
def test_unknown_paths_and_methods_are_told_in_openais_shape(
    gateway: Gateway, method: str, path: str, status: int
) -> None:
    answer = httpx.request(method, gateway.url + path, headers={"authorization": f"Bearer {gateway.key}"})
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_model_is_read_by_its_id(gateway: Gateway) -> None:
    assert gateway.client.models.retrieve("good").id == "good"
