"""The portal's site on a real socket, with a team, its key, and the tus protocol's requests in a word."""

import base64
import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from django.db import connections

from accounts import keys
from accounts.models import Team
from portal.asgi import site
from tests.factories.accounts import TeamFactory

TUS = {"Tus-Resumable": "1.0.0"}
CHUNK = {"Content-Type": "application/offset+octet-stream"}
UPLOADS = "/api/v1/weights/uploads"


@dataclass
class Tus:
    """A client that sends what it is told to, right or wrong."""

    url: str
    team: Team
    key: str
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.url, headers=self.door, timeout=30)

    @property
    def door(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def create(
        self, length: int | str, filename: str = "model.gguf", weights: str = "mine", **more: str
    ) -> httpx.Response:
        said = {"filename": filename, "weights": weights} | more
        headers = TUS | {"Upload-Length": str(length), "Upload-Metadata": metadata(said)}
        return self.http.post(UPLOADS, headers=headers)

    def begun(self, length: int, **more: Any) -> str:
        """The address of a new upload."""
        answer = self.create(length, **more)
        assert answer.status_code == 201, answer.text
        return str(answer.headers["location"])

    def patch(self, address: str, body: bytes, *, offset: int | str = 0, **headers: str) -> httpx.Response:
        sent = TUS | CHUNK | {"Upload-Offset": str(offset)} | {k.replace("_", "-"): v for k, v in headers.items()}
        return self.http.patch(address, content=body, headers=sent)

    def offset(self, address: str) -> int:
        answer = self.http.head(address, headers=TUS)
        assert answer.status_code == 200, answer.status_code
        return int(answer.headers["upload-offset"])


def metadata(said: dict[str, str]) -> str:
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in said.items())


def checksum(body: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm} {base64.b64encode(hashlib.new(algorithm, body).digest()).decode()}"


@pytest.fixture
def uploads_dir(settings: Any, tmp_path: Path) -> Path:
    settings.UPLOADS_DIR = str(tmp_path / "uploads")
    settings.UPLOADS_KEEP_FREE = 0
    return tmp_path / "uploads"


@pytest.fixture
def site_url(transactional_db: None, uploads_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """No thread of the server keeps a connection: the test's database could not be removed."""
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 0)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(site, http="httptools", lifespan="off", log_level="warning", timeout_graceful_shutdown=2)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(timeout=10)


@pytest.fixture
def tus(site_url: str) -> Tus:
    team = TeamFactory()
    _, key = keys.issue(team, name="upload")
    return Tus(site_url, team, key)
