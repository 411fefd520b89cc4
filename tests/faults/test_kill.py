"""kill -9 where it hurts most: the worker in a launch, the gateway in twenty streams. Afterwards all is well."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from openai import APIError, OpenAI

from tests.calls import api, engines, wait_until
from tests.running import RunningPortal

pytestmark = [pytest.mark.portal, pytest.mark.xdist_group("faults")]

HOSTED = "smollm2-135m-instruct"


def test_a_worker_killed_in_a_launch_leaves_no_orphan_and_no_stuck_state(running_portal: RunningPortal) -> None:
    client = api(running_portal)
    for pause_s in (0.0, 0.15, 0.5, 1.0):
        made = client.post("/deployments", json={"model": HOSTED, "hardware": "cpu-small", "name": "killed"}).json()
        time.sleep(pause_s)
        running_portal.kill("worker", signal.SIGKILL)
        path = f"/deployments/{made['id']}"
        wait_until(lambda path=path: client.get(path).json()["status"] == "ready", seconds=90)
        assert len(engines(running_portal)) == 2
        client.delete(path)
        wait_until(lambda path=path: client.get(path).json()["status"] == "stopped", seconds=60)
        assert len(engines(running_portal)) == 1
    wait_until(lambda: len(engines(running_portal)) == 1, seconds=30)  # the platform's own


def test_a_gateway_killed_in_twenty_streams_bills_each_delivered_call_once(running_portal: RunningPortal) -> None:
    key = running_portal.manage("issue_key", "--team", "demo", "--name", "cut").strip()
    client = OpenAI(base_url=f"{running_portal.url}/v1", api_key=key, max_retries=0, timeout=60)
    with ThreadPoolExecutor(20) as pool:
        calls = [pool.submit(_stream, client, n) for n in range(20)]
        wait_until(lambda: _reserved(running_portal) == 20, seconds=30)
        wait_until(lambda: sum(call.done() for call in calls) >= 2, seconds=90)
        running_portal.kill("web", signal.SIGKILL)
        delivered = sum(call.result() for call in calls)
    wait_until(lambda: _ready(running_portal), seconds=60)
    wait_until(lambda: _open_reservations(running_portal) == 0, seconds=150)
    with running_portal.db() as connection:
        row = connection.execute(
            "SELECT count(*), count(DISTINCT id), count(*) FILTER (WHERE quality = 'measured'),"
            " count(*) FILTER (WHERE cost <= 0) FROM billing_usageevent WHERE api_key_name LIKE 'cut%'"
        ).fetchone()
    assert row
    events, distinct, measured, free = row
    assert events == distinct <= 20
    assert delivered >= 2
    assert measured >= delivered
    assert free == 0, "a call that a dead gateway left is settled as estimated, never as nothing"
    assert running_portal.manage("check_ledger")


def _stream(client: OpenAI, number: int) -> int:
    """1 if the stream came whole, 0 if the kill cut it."""
    try:
        stream = client.chat.completions.create(
            model=HOSTED,
            messages=[{"role": "user", "content": f"Write a long story about the number {number}."}],
            max_tokens=8 if number < 6 else 300,
            stream=True,
            stream_options={"include_usage": True},
        )
        return int(any(chunk.usage for chunk in stream))
    except (APIError, httpx.HTTPError):
        return 0


def _reserved(portal: RunningPortal) -> int:
    with portal.db() as connection:
        row = connection.execute("SELECT count(*) FROM billing_reservation WHERE api_key_name LIKE 'cut%'").fetchone()
    assert row
    return int(row[0])


def _ready(portal: RunningPortal) -> bool:
    try:
        return httpx.get(f"{portal.url}/readyz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def _open_reservations(portal: RunningPortal) -> int:
    with portal.db() as connection:
        row = connection.execute("SELECT count(*) FROM billing_reservation WHERE state = 'open'").fetchone()
    assert row
    return int(row[0])
