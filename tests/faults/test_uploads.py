"""An upload through a kill -9 of the web process at half, and a disk without room: what was said to be kept is kept."""

import hashlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from portal.embedded import ROOT, free_port
from tests.calls import api, wait_until
from tests.catalog.uploads.conftest import CHUNK, TUS, metadata
from tests.running import RunningPortal

pytestmark = [pytest.mark.portal, pytest.mark.xdist_group("faults")]

MIB = 1024 * 1024
PIECE = hashlib.shake_256(b"weights").digest(MIB)


def test_a_killed_server_goes_on_where_it_was_durable_with_flat_memory(running_portal: RunningPortal) -> None:
    client = api(running_portal)
    address = _begun(client, 96 * MIB)
    before = _memory(running_portal)
    peak = 0

    def half_then_kill() -> Iterator[bytes]:
        nonlocal peak
        for number in range(96):
            if number == 64:
                peak = _memory(running_portal)
                running_portal.kill("web", signal.SIGKILL)
            yield _piece(number)

    with pytest.raises(httpx.HTTPError):
        client.patch(address, content=half_then_kill(), headers=TUS | CHUNK | {"Upload-Offset": "0"})
    assert peak - before < 32 * MIB
    wait_until(lambda: _up(running_portal.url), seconds=60)
    offset = _offset(client, address)
    assert 0 < offset <= 64 * MIB
    rest = (_piece(number)[max(0, offset - number * MIB) :] for number in range(offset // MIB, 96))
    answer = client.patch(address, content=rest, headers=TUS | CHUNK | {"Upload-Offset": str(offset)})
    assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(96 * MIB))
    (path,) = (running_portal.data_dir / "uploads").glob(f"{address.rsplit('/', 1)[1]}*")
    whole = hashlib.sha256()
    for number in range(96):
        whole.update(_piece(number))
    with path.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == whole.hexdigest()
    assert client.delete(address, headers=TUS).status_code == 204


def test_a_full_disk_is_said_and_what_came_before_is_kept(running_portal: RunningPortal, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk's end: the kernel refuses the write in the midst of a file."""
    small = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (24 << 20,) * 2)"
    with _Site(running_portal, tmp_path, small) as url:
        client = api(running_portal)
        client.base_url = httpx.URL(f"{url}/api/v1")
        address = _begun(client, 40 * MIB)
        body = (_piece(number) for number in range(40))
        answer = client.patch(address, content=body, headers=TUS | CHUNK | {"Upload-Offset": "0"})
        assert answer.status_code == 507
        assert "disk is full" in answer.json()["detail"]
        assert 16 * MIB <= _offset(client, address) <= 24 * MIB
        assert client.delete(address, headers=TUS).status_code == 204
        assert list((running_portal.data_dir / "uploads").iterdir()) == []


class _Site:
    """The portal's site alone, in a process of its own on the running portal's database."""

    def __init__(self, portal: RunningPortal, folder: Path, first: str) -> None:
        port = free_port()
        env = portal.env() | dict(line.split("=", 1) for line in (portal.data_dir / "env").read_text().splitlines())
        code = f"{first}; import uvicorn; uvicorn.run('portal.asgi:site', port={port}, lifespan='off')"
        self.url = f"http://127.0.0.1:{port}"
        self.log = (folder / "site.log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, env=env, stdout=self.log, stderr=self.log
        )

    def __enter__(self) -> str:
        wait_until(lambda: _up(self.url), seconds=30)
        return self.url

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()


def _piece(number: int) -> bytes:
    return number.to_bytes(8, "big") + PIECE[8:]


def _begun(client: httpx.Client, length: int) -> str:
    headers = TUS | {
        "Upload-Length": str(length),
        "Upload-Metadata": metadata({"weights": f"faults-{time.time_ns()}", "filename": "model.gguf"}),
    }
    answer = client.post("/weights/uploads", headers=headers)
    assert answer.status_code == 201, answer.text
    return str(answer.headers["location"]).removeprefix("/api/v1")


def _offset(client: httpx.Client, address: str) -> int:
    return int(client.head(address, headers=TUS).headers["upload-offset"])


def _memory(portal: RunningPortal) -> int:
    (pid,) = portal.pids("web")
    return int(psutil.Process(pid).memory_info().rss)


def _up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
