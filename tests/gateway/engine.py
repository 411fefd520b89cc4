"""A real engine with the real small model, and a deployment that is READY on it, without a portal around them."""

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from django.conf import settings
from django.utils import timezone

from accounts import sealing
from accounts.models import Team
from deployments.engines import llama_cpp
from deployments.models import Deployment, Replica
from tests.factories.deployments import smollm2

KEY = "engine-key-for-tests"


@contextmanager
def engine() -> Iterator[str]:
    """Its address on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        key_file = Path(folder, "key")
        key_file.write_text(KEY)
        argv = [
            sys.executable, str(llama_cpp.HOST), "--tag=t", "--weights", settings.SMOLLM2_GGUF, "--served-name", "m",
            "--context", "8192", "--slots", "4", "--threads", "1", "--port", str(port), "--key-file", str(key_file),
        ]  # fmt: skip
        with Path(folder, "log").open("wb") as log:
            process = subprocess.Popen(argv, stdout=log, stderr=log)
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_until_healthy(address, process)
            yield address
        finally:
            process.kill()
            process.wait()


def deployed(team: Team, address: str, *, name: str = "small") -> Deployment:
    """The team's deployment, as reconcile leaves it when its one replica answers at this address."""
    model, hardware = smollm2()
    now = timezone.now()
    row = Deployment.objects.create(
        team=team, name=name, model=model, weights=model.weights.get(), hardware=hardware, engine="llama_cpp",
        backend="local", options={"context_tokens": 2048, "slots": 4}, status="ready", min_replicas=1,
    )  # fmt: skip
    Replica.objects.create(
        deployment=row, started_at=now, ready_at=now, address=address, sealed_key=sealing.seal(KEY), billed_until=now
    )
    return row


def _wait_until_healthy(address: str, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert process.poll() is None, "the engine ended"
        try:
            if httpx.get(f"{address}/health", timeout=1).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    raise AssertionError("the engine did not become healthy")
