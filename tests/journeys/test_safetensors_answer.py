"""Tiny safetensors of random numbers, imported and uploaded, come to a live answer by vLLM, where there is one."""

import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI
from tusclient.client import TusClient

from tests.calls import api, wait_until
from tests.factories import tiny_weights as tiny
from tests.fakes.hub import TestHub
from tests.running import RunningPortal

pytestmark = [
    pytest.mark.portal,
    pytest.mark.xdist_group("portal"),
    pytest.mark.skipif(
        not os.environ.get("VLLM_PYTHON"), reason="VLLM_PYTHON is not set: no vLLM to try (docs/engines.md)"
    ),
]
WISH: dict[str, Any] = {
    "hardware": "cpu-small",
    "min_replicas": 1,
    "start_deadline_s": 300,
    "options": {"context_tokens": 256, "slots": 2, "enforce_eager": True},
}


def test_an_import_answers(running_portal: RunningPortal, portals_hub: TestHub) -> None:
    portals_hub.reset()
    portals_hub.add("org/soft", tiny.llama_folder() | {"README.md": b"# Soft\n"}, card={"license": "mit"})
    client = api(running_portal)
    made = client.post("/weights/imports", json={"repo": "org/soft"})
    assert made.status_code == 201, made.text
    path = f"/weights/{made.json()['id']}"
    wait_until(lambda: client.get(path).json()["status"] == "ready", seconds=30)
    _answers(running_portal, client, client.get(path).json()["model"])


def test_an_upload_answers(running_portal: RunningPortal, tmp_path: Path) -> None:
    client = api(running_portal)
    door = {"Authorization": f"Bearer {running_portal.key}"}
    tus = TusClient(f"{running_portal.url}/api/v1/weights/uploads", headers=door)
    for name, content in tiny.llama_folder().items():
        (tmp_path / name).write_bytes(content)
        said = {"weights": "soft-upload", "filename": name}
        tus.uploader(str(tmp_path / name), chunk_size=100_000, metadata=said).upload()
    (draft,) = client.get("/weights/drafts", params={"name": "soft-upload"}).json()["results"]
    path = f"/weights/drafts/{draft['id']}"
    assert client.post(f"{path}/finish", json={}).status_code == 202
    wait_until(lambda: client.get(path).json()["status"] == "ready", seconds=30)
    _answers(running_portal, client, "demo.soft-upload")


def _answers(portal: RunningPortal, client: httpx.Client, model: str) -> None:
    made = client.post("/deployments", json=WISH | {"model": model})
    assert made.status_code == 201, made.text
    path = f"/deployments/{made.json()['id']}"
    wait_until(lambda: client.get(path).json()["status"] in {"ready", "failed"}, seconds=300)
    assert client.get(path).json()["status"] == "ready", client.get(path).json()
    openai = OpenAI(base_url=f"{portal.url}/v1", api_key=portal.key, max_retries=0)
    said = openai.completions.create(model=made.json()["endpoint_model"], prompt="Hello", max_tokens=4)
    assert said.usage
    assert said.usage.completion_tokens == 4
    client.delete(path)
    wait_until(lambda: client.get(path).json()["status"] == "stopped", seconds=60)
