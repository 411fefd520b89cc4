"""Gateways side by side behind a balancer, each a machine for all that it knows: state is in PostgreSQL and Redis."""

import itertools
import select
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import pytest
from openai import OpenAI

from billing.models import Reservation, UsageEvent
from gateway.models import RequestRecord
from tests.gateway.conftest import Gateway, serving
from tests.gateway.test_calls import wait_for

pytestmark = pytest.mark.django_db(transaction=True)
ASK: list[Any] = [{"role": "user", "content": "Count to three."}]


@contextmanager
def balanced(*urls: str) -> Iterator[tuple[str, "Counter[str]"]]:
    """A TCP balancer: each connection goes to the next in turn that takes it. Yields its address, and who took how
    many."""
    listener = socket.create_server(("127.0.0.1", 0))
    took: Counter[str] = Counter()
    turns = itertools.cycle(urls)

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=carry, args=(client,), daemon=True).start()

    def carry(client: socket.socket) -> None:
        for url in itertools.islice(turns, len(urls)):
            host, _, port = url.removeprefix("http://").partition(":")
            with suppress(OSError):
                server = socket.create_connection((host, int(port)), timeout=2)
                took[url] += 1
                _pipe(client, server)
                return
        client.close()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", took
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def _pipe(one: socket.socket, two: socket.socket) -> None:
    with one, two, suppress(OSError):
        while True:
            ready, _, _ = select.select([one, two], [], [], 30)
            for side in ready:
                if not (data := side.recv(65536)):
                    return
                (two if side is one else one).sendall(data)
            if not ready:
                return


def test_calls_are_shared_and_each_is_billed_once(gateway: Gateway) -> None:
    with serving() as second, balanced(gateway.url, second) as (url, took), ThreadPoolExecutor(8) as pool:
        statuses = Counter(pool.map(lambda _: _post(url, gateway.key).status_code, range(40)))
    assert statuses == {200: 40}
    assert min(took[gateway.url], took[second]) >= 15
    assert UsageEvent.objects.count() == len(gateway.provider.calls) == 40
    assert not Reservation.objects.filter(state="open").exists()
    wait_for(lambda: RequestRecord.objects.count() == 40)


def test_a_retry_that_meets_another_machine_gets_the_stored_answer(gateway: Gateway) -> None:
    with serving() as second, balanced(gateway.url, second) as (url, took):
        answers = [_post(url, gateway.key, {"idempotency-key": "once"}) for _ in range(4)]
    assert took == {gateway.url: 2, second: 2}
    assert len({answer.content for answer in answers}) == 1
    assert [answer.headers.get("x-modelport-replayed") for answer in answers] == [None, "true", "true", "true"]
    assert len(gateway.provider.calls) == UsageEvent.objects.count() == 1


def test_a_machine_that_stops_under_load_costs_no_call_an_unmodified_client(gateway: Gateway) -> None:
    """It takes no new connections and lets calls end; the balancer goes on with the other, the SDK retries."""
    second = serving()
    with balanced(gateway.url, second.__enter__()) as (url, _), ThreadPoolExecutor(6) as pool:
        client = OpenAI(base_url=f"{url}/v1", api_key=gateway.key, max_retries=3, timeout=30)

        def call(number: int) -> str:
            if number == 20:
                second.server.should_exit = True
            answer = client.chat.completions.create(model="good", messages=ASK)
            return answer.choices[0].message.content or ""

        said = Counter(pool.map(call, range(60)))
        second.__exit__()
    assert len(said) == 1
    assert said.total() == 60
    assert UsageEvent.objects.count() == len(gateway.provider.calls)
    assert not Reservation.objects.filter(state="open").exists()


def _post(url: str, key: str, headers: dict[str, str] | None = None) -> httpx.Response:
    body = {"model": "good", "messages": ASK}
    asked = {"authorization": f"Bearer {key}"} | (headers or {})
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers=asked, timeout=30)
