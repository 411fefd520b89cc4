"""A program's whole way with open weights: import, deploy, sleep, wake by a call, update, roll back, stop, remove."""

from typing import Any

import pytest
from openai import OpenAI

from tests.calls import api, wait_until
from tests.factories import tiny_weights as tiny
from tests.fakes.hub import TestHub
from tests.running import RunningPortal

pytestmark = [pytest.mark.portal, pytest.mark.xdist_group("portal")]


def test_from_the_hub_to_gone(running_portal: RunningPortal, portals_hub: TestHub) -> None:
    portals_hub.reset()
    files = {f"tiny-{kind}.gguf": tiny.gguf(seed=seed) for seed, kind in enumerate(["Q4_K_M", "Q8_0"], start=20)}
    portals_hub.add("org/lives", files, card={"license": "mit"})
    client = api(running_portal)

    def imported(file: str) -> dict[str, Any]:
        made = client.post("/weights/imports", json={"repo": "org/lives", "file": file})
        assert made.status_code == 201, made.text
        path = f"/weights/{made.json()['id']}"
        wait_until(lambda: client.get(path).json()["status"] == "ready", seconds=30)
        return dict(client.get(path).json())

    first = imported("tiny-Q4_K_M.gguf")
    made = client.post(
        "/deployments", json={"model": first["model"], "hardware": "cpu-small", "options": {"context_tokens": 256}}
    )
    assert made.status_code == 201, made.text
    path, name = f"/deployments/{made.json()['id']}", made.json()["endpoint_model"]

    def reaches(status: str) -> None:
        wait_until(lambda: client.get(path).json()["status"] == status, seconds=60)

    def answers() -> str:
        openai = OpenAI(base_url=f"{running_portal.url}/v1", api_key=running_portal.key, max_retries=0)
        said = openai.chat.completions.with_raw_response.create(
            model=name, messages=[{"role": "user", "content": "Hello."}], max_tokens=4
        )
        assert said.headers["x-modelport-path"] == "serverless"
        return said.headers["x-request-id"]

    reaches("ready")
    answers()
    _set_idle_window(running_portal, path, seconds=1)
    reaches("asleep")
    _set_idle_window(running_portal, path, seconds=600)
    answers()
    reaches("ready")

    second = imported("tiny-Q8_0.gguf")
    assert second["model"] == first["model"]
    changed = client.patch(path, json={"revision": second["revision"]})
    assert changed.status_code in {200, 202}, changed.text
    wait_until(lambda: _version(client, path) == 2, seconds=60)
    answers()
    assert client.post(f"{path}/rollback").status_code in {200, 202}
    wait_until(lambda: _version(client, path) == 1, seconds=60)
    answers()

    moves = [event["after"] for event in client.get(f"{path}/events").json()["results"]]
    for state in ("starting", "ready", "asleep", "waking", "updating"):
        assert state in moves
    assert client.delete(path).status_code == 202
    reaches("stopped")
    for weights in (first, second):
        assert client.delete(f"/weights/{weights['id']}").status_code == 204
    with running_portal.db() as connection:
        (billed, ran) = connection.execute(
            """SELECT (SELECT sum((quantities ->> meter)::numeric) FROM billing_usageevent,
                        unnest(ARRAY['compute.seconds', 'compute.starting']) AS meter
                        WHERE source = %(name)s AND quantities ? meter),
                      (SELECT sum(extract(epoch FROM exited_at - started_at)) FROM deployments_replica
                        WHERE deployment_id = %(id)s)""",
            {"name": name, "id": path.rsplit("/", 1)[-1]},
        ).fetchone()
    assert abs(billed - ran) < 0.001, "slices are uptime"


def _version(client: Any, path: str) -> int:
    """Which one takes the calls, once nothing is being tried."""
    seen = client.get(path).json()
    return int(seen["version"]) if seen["status"] == "ready" else 0


def _set_idle_window(portal: RunningPortal, path: str, *, seconds: int) -> None:
    """Shorter than anybody may ask for, so that the test need not wait."""
    with portal.db() as connection:
        connection.execute(
            "UPDATE deployments_deployment SET idle_window_s = %s WHERE id = %s", (seconds, path.rsplit("/", 1)[-1])
        )
