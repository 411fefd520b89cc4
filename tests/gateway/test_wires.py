"""Both wires, in what goes wrong and in the small print: errors in each one's shape, broken streams, lists, counts."""

import base64
import json
import time
from decimal import Decimal
from typing import Any

import anthropic
import httpx
import openai
import psycopg
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from accounts.models import ApiKey
from billing.batching import Batcher
from billing.models import Budget, Reservation, Spend, UsageEvent
from catalog.models import Provider
from deployments.models import Deployment
from gateway import tracing, upstream
from gateway.models import Limits, RequestRecord
from tests.factories.deployments import smollm2
from tests.gateway.conftest import Gateway, serving
from tests.gateway.test_calls import wait_for

pytestmark = pytest.mark.django_db(transaction=True)
ASK: list[Any] = [{"role": "user", "content": "Count to three."}]
IMAGE = {"type": "image", "source": {"type": "url", "url": "http://169.254.169.254/latest"}}
GOOD: dict[str, Any] = {"model": "c-good", "max_tokens": 9, "messages": ASK}

BAD_MESSAGES: list[tuple[Any, int, str, str]] = [
    ("{", 400, "invalid_request_error", "JSON"),
    ("[]", 400, "invalid_request_error", "JSON"),
    ("\ud800", 400, "invalid_request_error", "JSON"),
    ({"model": "c-good", "max_tokens": 9}, 400, "invalid_request_error", "messages"),
    (GOOD | {"messages": []}, 400, "invalid_request_error", "messages"),
    (GOOD | {"messages": "hi"}, 400, "invalid_request_error", "messages"),
    (GOOD | {"messages": [{"role": "system", "content": "x"}]}, 400, "invalid_request_error", "messages.0.role"),
    (GOOD | {"messages": [{"role": "user", "content": 5}]}, 400, "invalid_request_error", "messages.0.content"),
    (GOOD | {"messages": [None]}, 400, "invalid_request_error", "messages.0"),
    (GOOD | {"messages": [{"role": [], "content": "x"}]}, 400, "invalid_request_error", "messages.0"),
    ({"model": "c-good", "messages": ASK}, 400, "invalid_request_error", "max_tokens"),
    ({"max_tokens": 9, "messages": ASK}, 400, "invalid_request_error", "model"),
    (GOOD | {"model": 7}, 400, "invalid_request_error", "model"),
    (GOOD | {"max_tokens": 0}, 400, "invalid_request_error", "max_tokens"),
    (GOOD | {"max_tokens": -1}, 400, "invalid_request_error", "max_tokens"),
    (GOOD | {"max_tokens": 10**12}, 400, "invalid_request_error", "max_tokens"),
    (GOOD | {"max_tokens": "ten"}, 400, "invalid_request_error", "max_tokens"),
    (GOOD | {"temperature": 9}, 400, "invalid_request_error", "temperature"),
    (GOOD | {"stream": "yes"}, 400, "invalid_request_error", "stream"),
    (GOOD | {"tools": {}}, 400, "invalid_request_error", "tools"),
    (GOOD | {"system": 5}, 400, "invalid_request_error", "system"),
    (GOOD | {"api_base": "http://x"}, 400, "invalid_request_error", "api_base"),
    (GOOD | {"api_key": "x"}, 400, "invalid_request_error", "api_key"),
    (GOOD | {"extra_headers": {}}, 400, "invalid_request_error", "extra_headers"),
    (GOOD | {"messages": [{"role": "user", "content": [IMAGE]}]}, 400, "invalid_request_error", "messages.0.content.0"),
    (GOOD | {"model": "nothing"}, 404, "not_found_error", "nothing"),
    (GOOD | {"model": "c-good\u0000"}, 404, "not_found_error", "c-good"),
]


@pytest.mark.parametrize(("body", "status", "kind", "told"), BAD_MESSAGES)
def test_a_bad_messages_body_is_told_in_anthropics_shape(
    gateway: Gateway, body: Any, status: int, kind: str, told: str
) -> None:
    content = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else json.dumps(body).encode()
    answer = httpx.post(f"{gateway.url}/v1/messages", content=content, headers={"x-api-key": gateway.key})
    said = answer.json()
    assert (answer.status_code, said["type"], said["error"]["type"]) == (status, "error", kind)
    assert told in said["error"]["message"]
    assert said["request_id"] == answer.headers["request-id"] == answer.headers["x-request-id"]
    assert not Reservation.objects.exists()


@pytest.mark.parametrize("key", ["garbage", "mp_" + "x" * 10_000, "caf\u00e9", ""])
def test_a_bad_key_is_told_in_anthropics_shape(gateway: Gateway, key: str) -> None:
    headers = {b"x-api-key": key.encode("latin-1")}
    answer = httpx.post(f"{gateway.url}/v1/messages", json=GOOD, headers=headers)
    assert (answer.status_code, answer.json()["error"]["type"]) == (401, "authentication_error")


def test_what_the_portal_refuses_is_told_in_anthropics_shape(gateway: Gateway) -> None:
    model, hardware = smollm2()
    asleep = Deployment.objects.create(
        team=gateway.team, name="asleep", model=model, weights=model.weights.get(), hardware=hardware,
        engine="llama_cpp", backend="local", options={}, status="asleep",
    )  # fmt: skip

    def told(body: dict[str, Any] | bytes) -> tuple[int, str, dict[str, str]]:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = httpx.post(f"{gateway.url}/v1/messages", content=content, headers=gateway.headers, timeout=30)
        return answer.status_code, answer.json()["error"]["type"], dict(answer.headers)

    assert told(b"x" * (10 * 1024 * 1024 + 1))[:2] == (413, "request_too_large")
    status, kind, headers = told(GOOD | {"model": asleep.endpoint_model})
    assert (status, kind, headers["x-modelport-state"]) == (503, "overloaded_error", "waking")
    assert int(headers["retry-after"]) >= 1
    long = httpx.post(f"{gateway.url}/v1/messages", json=GOOD | {"model": "too-long"}, headers=gateway.headers)
    assert (long.status_code, long.json()["error"]["type"]) == (400, "invalid_request_error")
    assert "2048" in long.text
    assert "5000" in long.text
    Limits.objects.create(team=gateway.team, api_key=ApiKey.objects.get(), requests_per_minute=1)
    Budget.objects.create(team=gateway.team, usd=Decimal("0.01"))
    time.sleep(4.2)  # as long as a key's limits may be remembered
    status, kind, headers = told(GOOD | {"max_tokens": 5000})
    assert (status, kind, headers["x-should-retry"]) == (429, "billing_error", "false")
    status, kind, headers = told(GOOD)
    assert (status, kind) == (429, "rate_limit_error")
    assert int(headers["retry-after"]) >= 1


ODD = [None, True, 0, -1, 1e308, 10**400, "", "x", [], [[]], [None], {}, {"a": None}]
FIELDS = {
    "/v1/chat/completions": [
        "model", "messages", "tools", "tool_choice", "response_format", "stop", "n", "stream", "stream_options",
        "max_tokens", "logprobs", "metadata", "seed",
    ],
    "/v1/messages": ["model", "messages", "system", "tools", "tool_choice", "stop_sequences", "stream", "thinking"],
    "/v1/responses": ["model", "input", "instructions", "tools", "tool_choice", "text", "stream", "max_output_tokens"],
    "/v1/completions": ["model", "prompt", "n", "best_of", "stream", "max_tokens", "echo"],
    "/v1/embeddings": ["model", "input", "dimensions", "encoding_format"],
    "/v1/messages/count_tokens": ["model", "messages", "system", "tools"],
}  # fmt: skip


@pytest.mark.parametrize("model", ["good", "c-good"])
@pytest.mark.parametrize("path", FIELDS)
def test_nothing_odd_in_a_field_is_an_internal_error(gateway: Gateway, path: str, model: str) -> None:
    whole = {"model": model, "messages": ASK, "max_tokens": 9}
    if "responses" in path or "embeddings" in path:
        whole = {"model": model, "input": "x"}
    elif path == "/v1/completions":
        whole = {"model": model, "prompt": "x"}
    with httpx.Client(headers=gateway.headers, timeout=30) as client:
        for name in FIELDS[path]:
            for value in ODD:
                answer = client.post(gateway.url + path, content=json.dumps(whole | {name: value}))
                assert answer.status_code < 500, (name, value, answer.text)
        for odd in ODD:
            for message in ({"role": "user", "content": odd}, {"role": odd, "content": "x"},
                            {"role": "tool", "content": odd},
                            {"role": "user", "content": [odd]}, {"role": "user", "content": [{"type": odd}]},
                            {"role": "user", "content": [{"type": "image_url", "image_url": odd}]},
                            {"role": "user", "content": [{"type": "image", "source": odd}]},
                            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x", "content": odd}]},
                            {"role": "assistant", "content": None, "tool_calls": odd},
                            {"role": "assistant", "content": None, "tool_calls": [{"id": "x", "function": odd}]},
                            {"type": "function_call", "call_id": odd, "name": odd, "arguments": odd},
                            {"type": "function_call_output", "call_id": "x", "output": odd}):  # fmt: skip
                name = "input" if "responses" in path else "messages"
                answer = client.post(gateway.url + path, content=json.dumps(whole | {name: [message]}))
                assert answer.status_code < 500, (message, answer.text)
            for tool in ({"type": odd}, {"type": "function", "function": odd}, {"name": odd, "input_schema": odd},
                         {"type": "function", "name": odd, "parameters": odd}):  # fmt: skip
                answer = client.post(gateway.url + path, content=json.dumps(whole | {"tools": [tool]}))
                assert answer.status_code < 500, (tool, answer.text)


# --- streams that break -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("model", ["cut", "garbage", "no-done", "c-cut", "c-garbage", "c-no-done"])
def test_a_broken_stream_ends_in_an_error_on_openais_wire(gateway: Gateway, model: str) -> None:
    with pytest.raises(openai.APIError):
        list(gateway.client.chat.completions.create(model=model, messages=ASK, stream=True))
    text = _post(gateway, "/v1/chat/completions", {"model": model, "messages": ASK, "stream": True}).text
    assert "[DONE]" not in text
    assert text.splitlines()[-2].startswith('data: {"error"')
    _billed(2)


@pytest.mark.parametrize("model", ["cut", "garbage", "no-done", "c-cut", "c-garbage", "c-no-done"])
def test_a_broken_stream_ends_in_an_error_on_anthropics_wire(gateway: Gateway, model: str) -> None:
    with pytest.raises(anthropic.APIError):
        list(gateway.anthropic.messages.create(model=model, max_tokens=9, messages=ASK, stream=True))
    text = _post(gateway, "/v1/messages", {"model": model, "max_tokens": 9, "messages": ASK, "stream": True}).text
    assert "message_stop" not in text
    assert "event: error" in text.split("\n\n")[-2]
    _billed(2)


@pytest.mark.parametrize("model", ["cut", "c-garbage"])
def test_a_broken_stream_ends_in_an_error_among_responses(gateway: Gateway, model: str) -> None:
    with pytest.raises(openai.APIError):
        list(gateway.client.responses.create(model=model, input="x", stream=True))
    _billed(1)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
@pytest.mark.parametrize(
    ("model", "status"), [("c-busy", 429), ("c-overloaded", 503), ("c-broken", 502), ("c-html", 502)]
)
def test_what_anthropic_refuses_is_told_and_not_billed(gateway: Gateway, path: str, model: str, status: int) -> None:
    answer = _post(gateway, path, {"model": model, "max_tokens": 9, "messages": ASK})
    assert answer.status_code == status
    assert "sk-" not in answer.text
    wait_for(lambda: not Reservation.objects.filter(state="open").exists())
    assert not UsageEvent.objects.exists()
    assert Spend.objects.get().held == 0


def test_without_usage_a_stream_from_anthropic_is_billed_by_estimate(gateway: Gateway) -> None:
    list(gateway.anthropic.messages.create(model="c-no-usage", max_tokens=9, messages=ASK, stream=True))
    wait_for(lambda: UsageEvent.objects.count() == 1)
    event = UsageEvent.objects.get()
    assert event.quality == "estimated"
    assert event.cost > 0


def _billed(events: int) -> None:
    wait_for(lambda: UsageEvent.objects.count() == events)
    wait_for(lambda: not Reservation.objects.filter(state="open").exists())
    assert all(event.cost > 0 for event in UsageEvent.objects.all())


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
def test_a_stream_that_dies_before_its_first_byte_is_tried_again_and_not_billed(gateway: Gateway, path: str) -> None:
    body = {"model": "stillborn", "stream": True} | ({"input": "x"} if "responses" in path else {"messages": ASK})
    answer = _post(gateway, path, body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_error")
    assert len(gateway.provider.calls) == 3
    wait_for(lambda: Reservation.objects.filter(state="void").count() == 3)
    assert not UsageEvent.objects.exists()


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("/v1/chat/completions", {"n_predict": 5}, "n_predict"),
    ("/v1/chat/completions", {"n_cmpl": 4}, "n_cmpl"),
    ("/v1/chat/completions", {"models": ["a-dear-one"]}, "models"),
    ("/v1/chat/completions", {"fallbacks": [{"model": "a-dear-one"}]}, "fallbacks"),
    ("/v1/chat/completions", {"plugins": [{"id": "web"}]}, "plugins"),
    ("/v1/messages", {"model": "good", "n": 16}, "n: "),
    ("/v1/messages", {"model": "good", "best_of": 16}, "best_of"),
    ("/v1/messages", {"model": "good", "max_completion_tokens": 100_000}, "max_completion_tokens"),
    ("/v1/chat/completions", {"web_search_options": {"x": 1}}, "web_search_options"),
    ("/v1/chat/completions", {"service_tier": "priority"}, "service_tier"),
    ("/v1/messages", {"inference_geo": "us"}, "inference_geo: "),
    ("/v1/messages", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": [
        {"type": "input_audio", "input_audio": {"data": "http://169.254.169.254/x"}}]}]}, "messages[0].content[0]"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": [
        {"type": "input_video", "input_video": {"url": "https://x"}}]}]}, "messages[0].content[0]"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": [
        {"type": "video_url", "video_url": {"url": " " * 9 + "http://169.254.169.254/"}}]}]}, "messages[0].content[0]"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": [
        {"type": "video_url", "video_url": {"url": "\0ht\ntp\t://169.254.169.254/"}}]}]}, "messages[0].content[0]"),
    ("/v1/messages", {"messages": [{"role": "user", "content": [{"type": "document", "source": {
        "type": "content", "content": [IMAGE]}}]}]}, "messages.0.content.0.source"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "more", "param"), REFUSED)
def test_what_would_cost_or_fetch_more_than_is_seen_is_refused(
    gateway: Gateway, path: str, more: dict[str, Any], param: str
) -> None:
    answer = _post(gateway, path, GOOD | {"model": "good" if "chat" in path else "c-good"} | more)
    assert answer.status_code == 400
    assert param in answer.text
    assert not gateway.provider.calls
    assert not gateway.claude.calls


def test_a_recording_in_base64_is_no_address(gateway: Gateway) -> None:
    audio = {"data": base64.b64encode(b"\xff\xfb\x90").decode(), "format": "mp3"}
    messages = [{"role": "user", "content": [{"type": "input_audio", "input_audio": audio}]}]
    assert _post(gateway, "/v1/chat/completions", {"model": "good", "messages": messages}).status_code == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_a_body_that_nests_too_deep_is_refused_and_harms_no_one(gateway: Gateway, path: str) -> None:
    deep = b"[" * 300 + b"]" * 300
    body = b'{"model": "good", "max_tokens": 9, "input": "x", "messages": [{"role": "user", "content": "x"}],'
    answer = httpx.post(gateway.url + path, content=body + b'"metadata": ' + deep + b"}", headers=gateway.headers)
    assert answer.status_code == 400
    assert "deeper" in answer.text
    assert gateway.provider.calls == []


def test_a_wait_of_five_thousand_digits_is_a_bad_request(gateway: Gateway) -> None:
    headers = gateway.headers | {"x-modelport-hold-s": "9" * 5000}
    answer = httpx.post(f"{gateway.url}/v1/chat/completions", json={"model": "good", "messages": ASK}, headers=headers)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "x-modelport-hold-s")


def test_a_name_that_no_log_can_hold_does_not_stop_the_log(gateway: Gateway) -> None:
    for name in ("x\\u0000", "x\u0000y", "good"):
        _post(gateway, "/v1/chat/completions", {"model": name, "messages": ASK})
    wait_for(lambda: RequestRecord.objects.count() == 3)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_the_larger_of_two_bounds_is_what_a_budget_holds(gateway: Gateway, path: str) -> None:
    Budget.objects.create(team=gateway.team, usd=Decimal("0.05"))
    both = {"max_tokens": 1, "max_completion_tokens": 100_000}
    answer = _post(gateway, path, {"model": "good", "messages": ASK, "prompt": "x"} | both)
    assert answer.json()["error"]["code"] == "insufficient_quota"


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/v1/chat/completions", {"system": "x" * 100_000}),
        ("/v1/chat/completions", {"documents": [{"text": "x" * 100_000}]}),
        ("/v1/messages", {"output_config": {"format": {"type": "json_schema", "schema": {"d": "x" * 100_000}}}}),
    ],
)
def test_what_is_only_forwarded_is_held_against_a_budget_as_prompt(
    gateway: Gateway, path: str, more: dict[str, Any]
) -> None:
    Budget.objects.create(team=gateway.team, usd=Decimal("0.05"))
    assert _post(gateway, path, GOOD | more).status_code == 429
    assert not gateway.claude.calls


# --- the small print --------------------------------------------------------------------------------------------
def test_models_are_listed_in_the_words_of_each_wire(gateway: Gateway) -> None:
    assert {"good", "c-good"} <= {model.id for model in gateway.client.models.list()}
    page = gateway.anthropic.models.list()
    assert {"good", "c-good"} <= {model.id for model in page.data}
    assert {model.type for model in page.data} == {"model"}


@pytest.mark.parametrize("name", ["org/slashed", "org%2Fslashed"])
def test_a_name_with_a_slash_is_read_raw_and_encoded(gateway: Gateway, name: str) -> None:
    answer = httpx.get(f"{gateway.url}/v1/models/{name}", headers=gateway.headers)
    assert answer.json()["id"] == "org/slashed"
    assert httpx.get(f"{gateway.url}/v1/models/{name}x", headers=gateway.headers).status_code == 404


def test_tokens_are_counted_where_the_target_can(gateway: Gateway) -> None:
    counted = gateway.anthropic.messages.count_tokens(model="c-good", messages=ASK)
    assert counted.input_tokens > 0
    with pytest.raises(anthropic.BadRequestError, match="can't count tokens"):
        gateway.anthropic.messages.count_tokens(model="good", messages=ASK)
    assert not Reservation.objects.exists()


def test_completions_and_embeddings_are_billed(gateway: Gateway) -> None:
    done = gateway.client.completions.create(model="good", prompt="One", max_tokens=5)
    assert done.choices[0].text == "One two three"
    made = gateway.client.embeddings.create(model="good", input=["a", "b"])
    assert [item.embedding for item in made.data] == [[1.0, 2.0], [1.0, 2.0]]
    meters = [event.quantities for event in UsageEvent.objects.order_by("recorded_at")]
    assert Decimal(meters[1]["tokens.input"]) == 5
    assert Decimal(meters[1].get("tokens.output", 0)) == 0
    with pytest.raises(openai.BadRequestError, match="does not offer it"):
        gateway.client.embeddings.create(model="c-good", input="a")


def test_unknown_fields_go_through_untouched(gateway: Gateway) -> None:
    more = {"logit_bias": {"50256": -100}, "x_new": {"a": [1]}, "seed": 7, "user": "u", "logprobs": True}
    _post(gateway, "/v1/chat/completions", {"model": "good", "messages": ASK, **more})
    assert gateway.provider.calls[0].items() >= more.items()


def test_an_answers_headers_say_what_happened(gateway: Gateway) -> None:
    answer = _post(gateway, "/v1/chat/completions", {"model": "good", "messages": ASK})
    assert answer.headers["x-request-id"] == answer.headers["request-id"]
    assert answer.headers["x-modelport-path"] == "hosted"
    assert answer.headers["x-modelport-target"] == "Fake Provider"
    assert answer.headers["x-modelport-model"] == "good"
    assert Decimal(answer.headers["x-modelport-cost"]) == UsageEvent.objects.get().cost
    assert int(answer.headers["openai-processing-ms"]) >= 0
    mine = httpx.get(f"{gateway.url}/v1/models", headers=gateway.headers | {"x-request-id": "mine-1"})
    assert mine.headers["x-request-id"] == "mine-1"


def test_the_request_log_has_a_line_a_call_and_no_prompt(gateway: Gateway) -> None:
    _post(gateway, "/v1/chat/completions", {"model": "good", "messages": ASK})
    _post(gateway, "/v1/messages", {"model": "nothing", "messages": ASK, "max_tokens": 9})
    wait_for(lambda: RequestRecord.objects.count() == 2)
    good, bad = RequestRecord.objects.order_by("at")
    assert (good.status, good.tokens_in, good.tokens_out, good.path) == (200, 11, 3, "hosted")
    assert good.cost == UsageEvent.objects.get().cost
    assert (bad.status, bad.code, bad.cost) == (404, "model_not_found", None)
    assert "Count to three" not in json.dumps([list(map(str, row.__dict__.values())) for row in (good, bad)])


def test_metrics_count_calls_and_tokens_and_name_no_one(gateway: Gateway) -> None:
    _post(gateway, "/v1/chat/completions", {"model": "good", "messages": ASK})
    page = httpx.get(f"{gateway.url}/metrics").text
    for name in ("calls_total", "tokens_total", "cost_usd_total", "reservations_open", "settle_seconds", "wakes_total"):
        assert f"modelport_{name}" in page
    assert gateway.team.slug not in page
    behind = {"x-forwarded-for": "203.0.113.9"}
    assert httpx.get(f"{gateway.url}/metrics", headers=behind).status_code == 404


def _post(gateway: Gateway, path: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(gateway.url + path, json=body, headers=gateway.headers, timeout=30)


# --- a target that can't be reached, a database that can't ------------------------------------------------------
@pytest.mark.parametrize("stream", [False, True])
def test_a_target_that_stalls_is_given_up_and_not_billed(gateway: Gateway, monkeypatch: Any, stream: bool) -> None:
    monkeypatch.setattr(upstream, "READ_S", 0.3)
    monkeypatch.setattr(upstream, "WHOLE_S", 0.3)
    with serving() as url:
        body = {"model": "stalled", "messages": ASK, "stream": stream}
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, headers=gateway.headers, timeout=30)
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "upstream_error")
    assert not UsageEvent.objects.exists()
    assert not Reservation.objects.filter(state="open").exists()


def test_a_whole_answer_may_take_longer_than_a_stream_may_be_silent(gateway: Gateway, monkeypatch: Any) -> None:
    monkeypatch.setattr(upstream, "READ_S", 0.3)
    with serving() as url:
        body = {"model": "slow", "messages": ASK}
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, headers=gateway.headers, timeout=30)
    assert answer.status_code == 200
    assert UsageEvent.objects.get().quality == "measured"


def test_a_target_that_nobody_listens_at_is_told_and_not_billed(gateway: Gateway) -> None:
    Provider.objects.filter(slug="fake").update(base_url="http://127.0.0.1:1/v1")
    answer = _post(gateway, "/v1/chat/completions", {"model": "good", "messages": ASK})
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_error")
    assert not UsageEvent.objects.exists()
    assert Spend.objects.get().held == 0


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_while_the_ledger_is_away_no_call_is_made(gateway: Gateway, monkeypatch: Any, path: str) -> None:
    async def away(self: object) -> None:
        raise psycopg.OperationalError("the server is down")

    monkeypatch.setattr(Batcher, "_connected", away)
    answer = _post(gateway, path, {"model": "good", "messages": ASK, "max_tokens": 9})
    assert answer.status_code == 503
    assert "nothing is billed" in answer.text
    assert answer.headers["retry-after"]
    assert gateway.provider.calls == []


def test_a_request_is_a_span_in_the_words_of_the_genai_conventions(gateway: Gateway) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider)
    try:
        parent = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
        body = {"model": "good", "messages": ASK}
        httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=gateway.headers | parent)
        wait_for(lambda: bool(exporter.get_finished_spans()))
    finally:
        tracing.stop()
    (span,) = exporter.get_finished_spans()
    assert span.name == "chat good"
    assert span.parent
    assert f"{span.parent.span_id:x}" == "b7ad6b7169203331"
    wanted = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "good", "gen_ai.usage.output_tokens": 3}
    assert dict(span.attributes or {}).items() >= wanted.items()
    assert "Count to three" not in span.to_json()
