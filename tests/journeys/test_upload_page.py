"""Somebody's own weights from the browser: a lost connection, a reload, the same file again, and on it goes."""

import hashlib
import re
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, Route, expect
from tusclient.client import TusClient

from tests.browsing import sign_in
from tests.calls import api, wait_until
from tests.factories import tiny_weights as tiny
from tests.running import RunningPortal

pytestmark = [pytest.mark.browser, pytest.mark.portal, pytest.mark.xdist_group("portal")]

CHUNK = 16 * 1024 * 1024


def test_an_upload_goes_on_after_a_lost_connection_and_a_reload(
    phone: Page, running_portal: RunningPortal, tmp_path: Path
) -> None:
    path = tmp_path / "My Model.Q4.gguf"
    path.write_bytes(hashlib.shake_256(b"weights").digest(2 * CHUNK + 1000))
    sign_in(phone, running_portal)
    phone.goto(f"{running_portal.url}/weights/upload")
    offsets: list[str] = []
    _watch(phone, offsets, cut_after=1)
    phone.locator("#choose").set_input_files(path)
    expect(phone.get_by_label("Name")).to_have_value("my-model.q4")
    expect(phone.locator("#transfers .said")).to_contain_text(
        re.compile(r"The portal can't be reached\. Trying again in \d+ s\.")
    )
    expect(phone.get_by_role("button", name="Pause")).to_be_visible()
    phone.unroute_all(behavior="ignoreErrors")
    phone.reload()
    expect(phone.get_by_role("heading", level=1)).to_have_text("Upload my-model.q4")
    expect(phone.locator("#transfers .said")).to_contain_text("Choose the same file again to go on.")
    expect(phone.get_by_role("button", name="Verify")).to_be_disabled()
    _watch(phone, offsets, cut_after=10)
    _slow(phone, bytes_per_s=3_000_000)
    phone.locator("#choose").set_input_files(path)
    phone.get_by_role("button", name="Pause").click()
    expect(phone.locator("#transfers .said")).to_contain_text("paused at 16.0 MB of 32.0 MB")
    _slow(phone, bytes_per_s=-1)
    phone.get_by_role("button", name="Resume").click()
    expect(phone.locator("#transfers li[data-state=complete]")).to_be_visible()
    expect(phone.get_by_role("button", name="Verify")).to_be_enabled()
    assert offsets.count("0") == 1, "what was there was not sent again"
    assert {int(offset) for offset in offsets} == {0, CHUNK, 2 * CHUNK}
    (stored,) = (running_portal.data_dir / "uploads").iterdir()
    assert stored.read_bytes() == path.read_bytes()
    assert not phone.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    phone.on("dialog", lambda dialog: dialog.accept())
    phone.get_by_role("button", name="Give up this upload").click()
    expect(phone.get_by_text("was given up and its files were removed")).to_be_visible()
    assert not stored.exists()


def test_a_gguf_from_the_browser_is_verified_and_can_be_deployed(
    phone: Page, running_portal: RunningPortal, tmp_path: Path
) -> None:
    (tmp_path / "tiny.gguf").write_bytes(tiny.gguf()[:-500])
    sign_in(phone, running_portal)
    phone.goto(f"{running_portal.url}/weights/upload")
    phone.get_by_label("Name").fill("from-browser")
    phone.locator("#choose").set_input_files(tmp_path / "tiny.gguf")
    phone.get_by_role("button", name="Verify").click()
    expect(phone.get_by_role("alert").first).to_contain_text("the file is cut off")
    (tmp_path / "tiny.gguf").write_bytes(tiny.gguf())
    phone.reload()
    phone.locator("#choose").set_input_files(tmp_path / "tiny.gguf")
    phone.get_by_label("Licence").select_option("Apache-2.0")
    phone.get_by_label("Notes").fill("Made of random numbers.")
    phone.get_by_role("button", name="Verify").click()
    expect(phone.locator("#status")).to_contain_text("Every file is what it says it is")
    phone.get_by_role("link", name="Deploy from-browser").click()
    expect(phone.get_by_role("heading", level=1)).to_have_text("Deploy from-browser")


def test_a_script_with_tuspy_comes_to_a_live_answer(running_portal: RunningPortal, tmp_path: Path) -> None:
    client = api(running_portal)
    (tmp_path / "tiny.gguf").write_bytes(tiny.gguf(seed=3))
    door = {"Authorization": f"Bearer {running_portal.key}"}
    tus = TusClient(f"{running_portal.url}/api/v1/weights/uploads", headers=door)
    said = {"weights": "scripted", "filename": "tiny.gguf"}
    tus.uploader(str(tmp_path / "tiny.gguf"), chunk_size=20_000, metadata=said, upload_checksum=True).upload()
    (draft,) = client.get("/weights/drafts", params={"name": "scripted"}).json()["results"]
    assert client.post(f"/weights/drafts/{draft['id']}/finish", json={}).status_code == 202
    address = f"/weights/drafts/{draft['id']}"
    wait_until(lambda: client.get(address).json()["status"] != "verifying", seconds=30)
    assert client.get(address).json()["status"] == "ready", client.get(address).json()
    body = {"model": "demo.scripted", "hardware": "cpu-small", "name": "scripted", "min_replicas": 1}
    made = client.post("/deployments", json=body)
    assert made.status_code == 201, made.text
    path = f"/deployments/{made.json()['id']}"
    wait_until(lambda: client.get(path).json()["status"] == "ready", seconds=60)
    ask = {"model": "demo/scripted", "prompt": "hello", "max_tokens": 4}
    answer = httpx.post(f"{running_portal.url}/v1/completions", json=ask, headers=door, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["completion_tokens"] > 0
    client.delete(path)
    wait_until(lambda: client.get(path).json()["status"] == "stopped", seconds=30)


def _watch(page: Page, offsets: list[str], *, cut_after: int) -> None:
    """Note where each chunk begins; after so many of them the line is dead."""

    def handle(route: Route) -> None:
        if route.request.method == "PATCH":
            offsets.append(route.request.headers["upload-offset"])
            if len(offsets) > cut_after:
                route.abort()
                return
        route.continue_()

    page.route("**/api/v1/weights/uploads/*", handle)


def _slow(page: Page, *, bytes_per_s: int) -> None:
    line = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_s}
    page.context.new_cdp_session(page).send("Network.emulateNetworkConditions", line)
