"""From asleep to the first token, from the click to READY, from stop to gone; beside the engine's own start.

    .venv/bin/python benchmarks/cold_start.py [ROUNDS]

Starts a whole portal. In each round, one after the other: the engine's own process, started as the portal's backend
starts it, asked for its health until it answers, then one call; a sleeping deployment that is called through the
gateway; a click on Deploy until READY; a stop of that one until no process is left. Medians. The last line is
{"cold_start_ratio", "click_to_ready_extra_s", "stop_s"}.
"""

import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import httpx
import psycopg

from portal.embedded import free_port
from tests.running import RunningPortal

HOST = ROOT / "deployments/engines/llama_cpp_host.py"
MODEL = "smollm2-135m-instruct"
# The portal's own default: one engine in use leaves a core to whoever asks it.
THREADS = os.environ.get("ENGINE_THREADS") or str(max(1, (os.cpu_count() or 2) // 2))
PROMPT = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8, "temperature": 0, "stream": True}
LOOK_S = 0.005


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    with tempfile.TemporaryDirectory(prefix="modelport-cold-") as folder:
        portal = RunningPortal(Path(folder))
        try:
            portal.start()
            show([one_round(portal) for _ in range(rounds + 1)][1:])  # the first warms the disk's cache
        finally:
            portal.end()


def show(rounds: list[dict[str, float]]) -> None:
    median = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    print(f"{'seconds':24} {'median':>8} {'least':>8} {'most':>8}")
    for name, value in median.items():
        values = [one[name] for one in rounds]
        print(f"{name:24} {value:8.3f} {min(values):8.3f} {max(values):8.3f}")
    told = {
        "cold_start_ratio": round(median["asleep to first token"] / median["engine to first token"], 3),
        "click_to_ready_extra_s": round(median["click to ready"] - median["engine to healthy"], 3),
        "stop_s": round(median["stop to gone"], 3),
    }
    print(json.dumps(told))


def one_round(portal: RunningPortal) -> dict[str, float]:
    found = engine_alone(portal.env()["SMOLLM2_GGUF"])
    client = httpx.Client(
        base_url=portal.url, headers={"authorization": f"Bearer {portal.key}"}, timeout=60, trust_env=False
    )
    with client, portal.db() as database:
        wish = {"model": MODEL, "hardware": "cpu-small", "name": "cold"}
        began = time.perf_counter()
        made = client.post("/api/v1/deployments", json=wish).raise_for_status().json()
        wait_for(database, made["id"], "ready")
        found["click to ready"] = time.perf_counter() - began
        fall_asleep(portal, database, made["id"])
        found["asleep to first token"] = timed(lambda: first_token(client, made["endpoint_model"]))
        began = time.perf_counter()
        client.delete(f"/api/v1/deployments/{made['id']}").raise_for_status()
        wait_for(database, made["id"], "stopped")
        found["stop to gone"] = time.perf_counter() - began
        assert engines(portal) == 1, "only the platform's own is left"
    return found


def engine_alone(weights: str) -> dict[str, float]:
    with started(weights) as (port, began):
        while not is_healthy(port):
            time.sleep(LOOK_S)
        healthy = time.perf_counter() - began
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"authorization": "Bearer k"}, timeout=60, trust_env=False
        ) as client:
            first_token(client, "m")
        return {"engine to healthy": healthy, "engine to first token": time.perf_counter() - began}


@contextmanager
def started(weights: str) -> Iterator[tuple[int, float]]:
    """The same words on its command line as the portal's deployments have."""
    with tempfile.TemporaryDirectory() as folder:
        key, port = Path(folder, "key"), free_port()
        key.write_text("k")
        argv = [
            sys.executable, str(HOST), "--tag=bare", "--weights", weights, "--served-name", "m", "--context", "8192",
            "--slots", "4", "--threads", THREADS, "--port", str(port), "--key-file", str(key),
        ]  # fmt: skip
        began = time.perf_counter()
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
        try:
            yield port, began
        finally:
            process.kill()
            process.wait()


def is_healthy(port: int) -> bool:
    asking = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        asking.request("GET", "/health")
        return asking.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        asking.close()


def first_token(client: httpx.Client, model: str) -> None:
    """Returns with the first event that carries text."""
    with client.stream("POST", "/v1/chat/completions", json=PROMPT | {"model": model}) as answer:
        assert answer.status_code == 200, answer.read()
        lines = []
        for line in answer.iter_lines():
            lines.append(line)
            if line.startswith("data: {") and json.loads(line[6:])["choices"][0]["delta"].get("content"):
                return
    raise AssertionError(f"no token came: {lines}")


def fall_asleep(portal: RunningPortal, database: "psycopg.Connection[Any]", deployment_id: str) -> None:
    """Sooner than people may set it, and until its engine is gone."""
    database.execute("UPDATE deployments_deployment SET idle_window_s = 0 WHERE id = %s", (deployment_id,))
    wait_for(database, deployment_id, "asleep")
    while engines(portal) > 1:
        time.sleep(0.05)
    database.execute("UPDATE deployments_deployment SET idle_window_s = 600 WHERE id = %s", (deployment_id,))
    time.sleep(1.0)  # whoever ended it has gone home


def wait_for(database: "psycopg.Connection[Any]", deployment_id: str, status: str) -> None:
    end = time.monotonic() + 60
    while True:
        row = database.execute(
            "SELECT status, detail FROM deployments_deployment WHERE id = %s", (deployment_id,)
        ).fetchone()
        assert row
        if row[0] == status:
            return
        assert time.monotonic() < end, row
        time.sleep(LOOK_S)


def engines(portal: RunningPortal) -> int:
    return sum("llama_cpp_host" in line and "shim" not in line for line in portal.left())


def timed(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    socket.setdefaulttimeout(60)
    main()
