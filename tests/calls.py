"""What tests of a running portal say again and again: call its API, deploy the small model, wait for a fact."""

import contextlib
import time
from collections.abc import Callable, Iterator

import httpx
import psutil

from tests.running import RunningPortal


def api(portal: RunningPortal) -> httpx.Client:
    """The management API with the demo team's key; outlives a web process that is killed and started again."""
    return httpx.Client(
        base_url=f"{portal.url}/api/v1",
        headers={"authorization": f"Bearer {portal.key}"},
        timeout=30,
        transport=httpx.HTTPTransport(retries=3),
    )


@contextlib.contextmanager
def deployed_smollm2(portal: RunningPortal, *, name: str) -> Iterator[str]:
    """A READY deployment of the small model; its name for callers. It is stopped, and gone, afterwards."""
    client = api(portal)
    body = {"model": "smollm2-135m-instruct", "hardware": "cpu-small", "name": name, "min_replicas": 1}
    made = client.post("/deployments", json=body)
    assert made.status_code == 201, made.text
    path = f"/deployments/{made.json()['id']}"
    wait_until(lambda: client.get(path).json()["status"] == "ready", seconds=60)
    try:
        yield made.json()["endpoint_model"]
    finally:
        client.delete(path)
        wait_until(lambda: client.get(path).json()["status"] == "stopped", seconds=30)


def engines(portal: RunningPortal) -> list[psutil.Process]:
    """The engine processes of this portal, by the tag on their command line (shims are not engines)."""
    instance = (portal.data_dir / "instance").read_text().strip()
    lines = [(process, " ".join(process.info["cmdline"] or [])) for process in psutil.process_iter(["cmdline"])]
    return [process for process, line in lines if f"--tag={instance}:" in line and "shim" not in line]


def wait_until(fact: Callable[[], bool], *, seconds: float) -> None:
    """Return once `fact` holds, or fail after `seconds`."""
    end = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < end, f"not true within {seconds} s"
        time.sleep(0.2)
