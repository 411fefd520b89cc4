"""Calls while the house shakes: after each fault the ledger equals what the provider counted, and nothing is held."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import aiohttp
import httpx
import pytest

from tests.calls import api, wait_until
from tests.fakes import openai_upstream
from tests.fakes.openai_upstream import Provider
from tests.running import RunningPortal

pytestmark = [pytest.mark.portal, pytest.mark.xdist_group("faults")]
ASK = [{"role": "user", "content": "Count to three."}]
CALLS = int(os.environ.get("SWITCH_CALLS", "600"))
A_SECOND = 40


@dataclass
class Shaken:
    """A running portal, a provider at its edge whose model is `model`, a key that only this test uses."""

    portal: RunningPortal
    provider: Provider
    key: str
    name: str
    model: str
    fast: str

    def stream(self) -> bool:
        """True if it came whole."""
        body = {"model": self.model, "messages": ASK, "stream": True}
        headers = {"authorization": f"Bearer {self.key}"}
        try:
            answer = httpx.post(f"{self.portal.url}/v1/chat/completions", json=body, headers=headers, timeout=60)
        except httpx.HTTPError:
            return False
        return answer.text.rstrip().endswith("data: [DONE]")

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with self.portal.db() as connection:
            return connection.execute(sql, {"key": f"{self.name} (%"}).fetchall()

    def open(self) -> int:
        return int(
            self.rows("SELECT count(*) FROM billing_reservation WHERE api_key_name LIKE %(key)s AND state = 'open'")[0][
                0
            ]
        )

    def qualities(self) -> Counter[str]:
        return Counter(
            row[0] for row in self.rows("SELECT quality FROM billing_usageevent WHERE api_key_name LIKE %(key)s")
        )

    def billed(self) -> dict[str, int]:
        sql = "SELECT meter, sum(quantity) FROM billing_ledgerentry WHERE api_key_name LIKE %(key)s GROUP BY meter"
        return {meter: int(many) for meter, many in self.rows(sql)}


@pytest.fixture
def shaken(running_portal: RunningPortal) -> Iterator[Shaken]:
    tag = uuid4().hex[:8]
    with openai_upstream.running() as provider:
        code = (
            "from tests.gateway.conftest import offer, PRICES; from accounts import keys, sealing;"
            "from accounts.models import Team; from catalog.models import Provider;"
            f"row = Provider.objects.create(slug='p-{tag}', name='Provider {tag}', base_url='{provider.base_url}',"
            " sealed_key=sealing.seal('sk-provider-secret'));"
            f"offer('long-{tag}', row, PRICES, upstream_model='long');"
            f"offer('good-{tag}', row, PRICES, upstream_model='good');"
            f"print(keys.issue(Team.objects.get(slug='demo'), name='shaken-{tag}')[1])"
        )
        key = running_portal.manage("shell", "-c", code).splitlines()[-1]
        yield Shaken(running_portal, provider, key, f"shaken-{tag}", f"long-{tag}", f"good-{tag}")


def _ready(shaken: Shaken) -> bool:
    try:
        return httpx.get(f"{shaken.portal.url}/readyz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def test_a_gateway_asked_to_stop_lets_streams_end_first(shaken: Shaken) -> None:
    with ThreadPoolExecutor(10) as pool:
        calls = [pool.submit(shaken.stream) for _ in range(10)]
        wait_until(lambda: len(shaken.provider.calls) == 10, seconds=20)
        shaken.portal.kill("web", signal.SIGTERM)
        assert [call.result() for call in calls] == [True] * 10
    wait_until(lambda: _ready(shaken), seconds=60)
    wait_until(lambda: shaken.open() == 0, seconds=10)
    assert shaken.qualities() == {"measured": 10}
    assert shaken.billed() == dict(shaken.provider.metered)


def test_a_database_that_is_killed_mid_stream_loses_no_bill(shaken: Shaken) -> None:
    with ThreadPoolExecutor(10) as pool:
        calls = [pool.submit(shaken.stream) for _ in range(10)]
        wait_until(lambda: len(shaken.provider.calls) == 10, seconds=20)
        shaken.portal.kill("postgres")
        assert [call.result() for call in calls] == [True] * 10
    wait_until(lambda: _ready(shaken), seconds=60)
    wait_until(lambda: shaken.open() == 0, seconds=10)
    assert shaken.qualities() == {"measured": 10}
    assert shaken.billed() == dict(shaken.provider.metered)
    assert shaken.portal.manage("check_ledger")


def test_a_broker_that_is_killed_under_load_stops_no_call(shaken: Shaken) -> None:
    with ThreadPoolExecutor(10) as pool:
        calls = [pool.submit(shaken.stream) for _ in range(10)]
        wait_until(lambda: len(shaken.provider.calls) >= 5, seconds=20)
        shaken.portal.kill("redis")
        calls += [pool.submit(shaken.stream) for _ in range(10)]
        assert [call.result() for call in calls] == [True] * 20
    wait_until(lambda: shaken.open() == 0, seconds=10)
    assert shaken.billed() == dict(shaken.provider.metered)
    wait_until(lambda: _ready(shaken), seconds=60)


def test_an_alias_moves_from_path_to_path_and_no_call_fails(shaken: Shaken) -> None:
    """hosted -> a deployment that sleeps -> hosted, at a steady rate; each call is billed where its header says."""
    client = api(shaken.portal)
    body = {"model": "smollm2-135m-instruct", "hardware": "cpu-small", "name": f"d{shaken.name[-8:]}"}
    made = client.post("/deployments", json=body).json()
    path = f"/deployments/{made['id']}"
    try:
        wait_until(lambda: client.get(path).json()["status"] == "ready", seconds=60)
        _set_idle_window(shaken, made["id"], 1)
        wait_until(lambda: client.get(path).json()["status"] == "asleep", seconds=60)
        _set_idle_window(shaken, made["id"], 600)
        alias = {"name": f"a{shaken.name[-8:]}", "targets": [{"model": shaken.fast}]}
        row = client.post("/aliases", json=alias).json()
        met = asyncio.run(_steadily(shaken, client, row, alias, to=made["endpoint_model"]))
    finally:
        client.delete(path)
        wait_until(lambda: client.get(path).json()["status"] == "stopped", seconds=60)
    assert met.total() == CALLS
    assert set(met) == {"hosted", "serverless"}
    sql = "SELECT path, count(*), count(DISTINCT id) FROM billing_usageevent"
    sql += " WHERE api_key_name LIKE %(key)s GROUP BY path"
    wait_until(lambda: shaken.open() == 0, seconds=10)
    assert {name: (many, distinct) for name, many, distinct in shaken.rows(sql)} == {
        name: (many, many) for name, many in met.items()
    }


def _set_idle_window(shaken: Shaken, deployment_id: str, seconds: int) -> None:
    """Shorter than people may set it, so that the test need not wait."""
    with shaken.portal.db() as connection:
        sql = "UPDATE deployments_deployment SET idle_window_s = %s WHERE id = %s"
        connection.execute(sql, (seconds, deployment_id))


async def _steadily(shaken: Shaken, client: httpx.Client, row: Any, alias: dict[str, Any], *, to: str) -> Counter[str]:
    met: Counter[str] = Counter()
    headers = {"authorization": f"Bearer {shaken.key}"}
    body = {"model": row["endpoint_model"], "messages": ASK, "max_tokens": 1}

    async def call(session: aiohttp.ClientSession) -> None:
        async with session.post(f"{shaken.portal.url}/v1/chat/completions", json=body) as answer:
            assert answer.status == 200, await answer.text()
            met[answer.headers["x-modelport-path"]] += 1

    def move(model: str) -> None:
        client.put(f"/aliases/{row['id']}", json=alias | {"targets": [{"model": model}]}).raise_for_status()

    loop = asyncio.get_running_loop()
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        calls, moves, began = [], [], time.monotonic()
        for number in range(CALLS):
            await asyncio.sleep(max(0.0, began + number / A_SECOND - time.monotonic()))
            if number in {CALLS * 2 // 5, CALLS * 3 // 5}:
                moves.append(loop.run_in_executor(None, move, to if not moves else shaken.fast))
            calls.append(asyncio.create_task(call(session)))
        await asyncio.gather(*calls, *moves)
    return met
