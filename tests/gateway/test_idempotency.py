"""Idempotency-Key: the same call twice is answered twice and billed once."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest
from django.db import connection

from billing.batching import Batcher, conninfo_from_settings
from billing.errors import DatabaseDown
from billing.models import Reservation, UsageEvent
from gateway import idempotency
from gateway.errors import WireError
from gateway.models import StoredAnswer
from tests.factories.accounts import TeamFactory
from tests.gateway.conftest import Gateway
from tests.gateway.test_calls import wait_for

pytestmark = pytest.mark.django_db(transaction=True)
ASK: list[Any] = [{"role": "user", "content": "Count to three."}]
WAIT_TO_KEEP = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%gateway_storedanswer%'
"""
PATHS = {
    "/v1/chat/completions": {"model": "good", "messages": ASK},
    "/v1/completions": {"model": "good", "prompt": "x"},
    "/v1/embeddings": {"model": "good", "input": "x"},
    "/v1/responses": {"model": "good", "input": "x"},
    "/v1/messages": {"model": "c-good", "messages": ASK, "max_tokens": 9},
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
def test_the_same_key_and_body_get_the_same_answer_and_one_bill(gateway: Gateway, path: str, stream: bool) -> None:
    if stream and "embeddings" in path:
        pytest.skip("embeddings don't stream")
    body = PATHS[path] | ({"stream": True} if stream else {})
    first, second = (_post(gateway, path, body, "once") for _ in range(2))
    assert first.status_code == second.status_code == 200, second.text
    assert first.content == second.content
    assert first.headers["content-type"] == second.headers["content-type"]
    assert "x-modelport-replayed" not in first.headers
    assert (second.headers["x-modelport-replayed"], second.headers["x-modelport-cost"]) == ("true", "0")
    assert UsageEvent.objects.count() == 1
    assert len(gateway.provider.calls) + len(gateway.claude.calls) == 1


def test_another_body_under_the_same_key_is_a_conflict(gateway: Gateway) -> None:
    _post(gateway, "/v1/chat/completions", {"model": "good", "messages": ASK}, "k")
    other = _post(gateway, "/v1/chat/completions", {"model": "good", "messages": ASK, "n": 2}, "k")
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_key_reused")
    assert other.headers["x-should-retry"] == "false"


def test_a_call_in_flight_is_waited_for_by_nobody(gateway: Gateway) -> None:
    body = {"model": "slow", "messages": ASK}
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(_post, gateway, "/v1/chat/completions", body, "k")
        wait_for(lambda: len(gateway.provider.calls) == 1)
        second = _post(gateway, "/v1/chat/completions", body, "k")
        assert (second.status_code, second.json()["error"]["code"]) == (409, "idempotency_key_in_use")
        assert (second.headers["retry-after"], second.headers["x-should-retry"]) == ("1", "true")
        assert first.result().status_code == 200
    assert _post(gateway, "/v1/chat/completions", body, "k").headers["x-modelport-replayed"] == "true"


def test_a_failure_is_not_kept(gateway: Gateway) -> None:
    body = {"model": "busy", "messages": ASK}
    assert _post(gateway, "/v1/chat/completions", body, "k").status_code == 429
    assert not StoredAnswer.objects.exists()
    assert _post(gateway, "/v1/chat/completions", body, "k").status_code == 429
    assert len(gateway.provider.calls) == 2


def test_a_stream_whose_reader_left_is_read_to_its_end_and_replayed(gateway: Gateway) -> None:
    body = {"model": "slow", "messages": ASK, "stream": True}
    headers = gateway.headers | {"idempotency-key": "k"}
    url = f"{gateway.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, headers=headers) as answer:
        next(answer.iter_bytes())
    wait_for(lambda: UsageEvent.objects.count() == 1)
    assert UsageEvent.objects.get().quality == "measured"
    again = _post(gateway, "/v1/chat/completions", body, "k")
    assert again.headers["x-modelport-replayed"] == "true"
    assert again.content.rstrip().endswith(b"data: [DONE]")


@pytest.mark.parametrize("key", ["x" * 256, "caf\u00e9\u00ad"])
def test_a_key_that_is_none_is_refused(gateway: Gateway, key: str) -> None:
    raw = {b"idempotency-key": key.encode("latin-1"), b"authorization": f"Bearer {gateway.key}".encode()}
    answer = httpx.post(f"{gateway.url}/v1/chat/completions", json={"model": "good", "messages": ASK}, headers=raw)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_idempotency_key")


def test_an_answer_that_was_kept_is_billed_even_if_its_settlement_fails(gateway: Gateway, monkeypatch: Any) -> None:
    async def away(self: object, settlement: object) -> None:
        raise DatabaseDown("away")

    monkeypatch.setattr(Batcher, "settle", away)
    body = {"model": "good", "messages": ASK}
    first = _post(gateway, "/v1/chat/completions", body, "k")
    assert (first.status_code, first.headers["x-should-retry"]) == (503, "false")
    assert "billed later" in first.text
    assert _post(gateway, "/v1/chat/completions", body, "k").headers["x-modelport-replayed"] == "true"
    assert Reservation.objects.get().state == "open", "the sweep bills it"


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_cannot_be_kept_is_delivered_because_it_is_billed(gateway: Gateway, stream: bool) -> None:
    body = {"model": "stalled", "messages": ASK, "stream": stream}  # three seconds, in which the table is locked
    with ThreadPoolExecutor(1) as pool, psycopg.connect(conninfo_from_settings()) as other:
        answer = pool.submit(_post, gateway, "/v1/chat/completions", body, "k")
        wait_for(lambda: len(gateway.provider.calls) == 1)
        other.execute("LOCK TABLE gateway_storedanswer")
        wait_for(_cut_who_waits)
        other.rollback()
        assert answer.result().status_code == 200
    assert "three" in answer.result().text
    assert UsageEvent.objects.get().quality == "measured"
    assert "error" not in answer.result().text
    assert not StoredAnswer.objects.filter(status=200).exists()


def _cut_who_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_terminate_backend(pid) FROM ({WAIT_TO_KEEP}) waiting")  # noqa: S608 - no input
        return cursor.rowcount > 0


def test_many_at_once_make_one_call(gateway: Gateway) -> None:
    gate = threading.Barrier(8)

    def call(_: int) -> int:
        gate.wait()
        answer = _post(gateway, "/v1/chat/completions", {"model": "slow", "messages": ASK}, "k")
        while answer.status_code == 409:
            time.sleep(0.2)
            answer = _post(gateway, "/v1/chat/completions", {"model": "slow", "messages": ASK}, "k")
        return answer.status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(call, range(8))) == {200}
    assert UsageEvent.objects.count() == 1


def test_a_key_that_is_taken_and_given_back_by_many_at_once_is_free_or_in_use(db: None) -> None:
    team = TeamFactory()

    def take(_: int) -> set[str]:
        said = set()
        for _ in range(60):
            try:
                claimed = idempotency.claim(team.pk, "k", "/v1/chat/completions", b"{}")
                assert isinstance(claimed, idempotency.Claim)
                idempotency.release(claimed)
                said.add("free")
            except WireError as error:
                said.add(str(error.code))
        connection.close()
        return said

    with ThreadPoolExecutor(4) as pool:
        said = set[str]().union(*pool.map(take, range(4)))
    assert said == {"free", "idempotency_key_in_use"}


def _post(gateway: Gateway, path: str, body: dict[str, Any], key: str) -> httpx.Response:
    headers = gateway.headers | {"idempotency-key": key}
    return httpx.post(gateway.url + path, json=body, headers=headers, timeout=30)
