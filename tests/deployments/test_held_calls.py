"""Calls through a real gateway while their deployment wakes, is updated and scales: none lost, none made twice."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from django.db import connection
from django.utils import timezone

from accounts import keys
from billing.models import UsageEvent
from deployments import operations, reconcile, updating
from deployments.lifecycle import Status
from deployments.models import Deployment
from tests.deployments.portals import Portal
from tests.gateway.conftest import serving

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def worker(row: Deployment) -> Iterator[None]:
    """Somebody who follows it whenever there is something to do, as a worker does that is rung for."""
    over = threading.Event()

    def work() -> None:
        try:
            while not over.is_set():
                if reconcile.sweep():
                    reconcile.follow(row.pk, seconds=5)
                over.wait(0.02)
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


async def call_all(url: str, key: str, model: str, many: int, *, apart_s: float = 0.0) -> list[int]:
    """The statuses of so many calls, begun at once or a little apart."""
    headers = {"authorization": f"Bearer {key}"}
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}

    async def call(session: aiohttp.ClientSession) -> int:
        async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
            await answer.read()
            return answer.status

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
        calls = []
        for _ in range(many):
            calls.append(asyncio.create_task(call(session)))
            await asyncio.sleep(apart_s)
        return await asyncio.gather(*calls)


def answered(portal: Portal) -> int:
    """How many calls the engines of this portal have answered, by their own count."""
    return sum(len(path.read_text().splitlines()) for path in portal.root.glob("*/calls.log"))


@pytest.fixture
def held(settings: Any) -> None:
    settings.GATEWAY_HOLD_S = 30


def test_200_calls_at_zero_replicas_make_one_start_and_each_is_answered_once(small_portal: Portal, held: None) -> None:
    row = small_portal.awake("a", min_replicas=0)
    Deployment.objects.update(status_since=timezone.now() - timedelta(hours=1))
    assert small_portal.settle(row).status == Status.ASLEEP
    _, key = keys.issue(row.team, name="k")
    with serving() as url, worker(row):
        statuses = asyncio.run(call_all(url, key, row.endpoint_model, 200))
    assert statuses == [200] * 200
    assert row.replicas.count() == 2, "the one that fell asleep, and the one that was woken"
    assert answered(small_portal) == 200
    assert UsageEvent.objects.filter(source=row.endpoint_model, api_key_name__startswith="k").count() == 200


def test_no_call_fails_while_a_new_version_takes_over_and_one_step_is_made_back(
    small_portal: Portal, held: None
) -> None:
    small_portal.behave("--answer-s", "0.05")
    row = small_portal.awake("a")
    _, key = keys.issue(row.team, name="k")

    def change() -> None:
        try:
            for step in (lambda: updating.update(row, actor="t", options={"slots": 2}), _back(row)):
                before = row.version_id
                step()
                _until_another_version(row, than=before)
        finally:
            connection.close()

    changing = threading.Thread(target=change)
    with serving() as url, worker(row):
        changing.start()
        statuses = asyncio.run(call_all(url, key, row.endpoint_model, 150, apart_s=0.02))
        changing.join()
        statuses += asyncio.run(call_all(url, key, row.endpoint_model, 5))
    assert statuses == [200] * 155
    assert answered(small_portal) == 155 + 2, "each once, and one prompt for each version that was tried"
    assert row.replicas.count() == 3
    assert not row.replicas.filter(crashed=True).exists()


def test_a_stop_under_load_lets_calls_in_flight_end(small_portal: Portal, held: None) -> None:
    small_portal.behave("--answer-s", "1.5")
    row = small_portal.awake("a")
    _, key = keys.issue(row.team, name="k")

    def stop() -> None:
        try:
            operations.stop(row, actor="t")
        finally:
            connection.close()

    with serving() as url, worker(row):
        threading.Timer(1.2, stop).start()
        statuses = asyncio.run(call_all(url, key, row.endpoint_model, 4))
        row.refresh_from_db()
        assert statuses == [200] * 4
    small_portal.settle(row)
    assert row.status == Status.STOPPED


def _back(row: Deployment) -> Any:
    return lambda: updating.rollback(row, actor="t")


def _until_another_version(row: Deployment, *, than: Any) -> None:
    end = timezone.now() + timedelta(seconds=20)
    while row.version_id == than or row.status != Status.READY:
        assert timezone.now() < end, f"{row.status} {row.detail}"
        threading.Event().wait(0.05)
        row.refresh_from_db()
