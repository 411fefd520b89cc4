"""Somebody's own weights from the browser: a lost connection, a reload, the same file again, and on it goes."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect, sync_playwright

from tests.running import RunningPortal

pytestmark = [pytest.mark.browser, pytest.mark.portal, pytest.mark.xdist_group("portal")]

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
CHUNK = 16 * 1024 * 1024


@pytest.fixture
def page(chromium_path: str) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=QUIET)
        page = browser.new_context(viewport={"width": 390, "height": 844}).new_page()
        failures: list[str] = []
        page.on("pageerror", lambda error: failures.append(str(error)))
        yield page
        browser.close()
        assert failures == []


def test_an_upload_goes_on_after_a_lost_connection_and_a_reload(
    page: Page, running_portal: RunningPortal, tmp_path: Path
) -> None:
    path = tmp_path / "My Model.Q4.gguf"
    path.write_bytes(hashlib.shake_256(b"weights").digest(2 * CHUNK + 1000))
    _sign_in(page, running_portal)
    page.goto(f"{running_portal.url}/weights/upload")
    offsets: list[str] = []
    _watch(page, offsets, cut_after=1)
    page.locator("#choose").set_input_files(path)
    expect(page.get_by_label("Name")).to_have_value("my-model.q4")
    expect(page.locator("#transfers .said")).to_contain_text("The portal can't be reached. Trying again in 1 s.")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    page.unroute_all(behavior="ignoreErrors")
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("Upload my-model.q4")
    expect(page.locator("#transfers .said")).to_contain_text("Choose the same file again to go on.")
    expect(page.get_by_role("button", name="Verify")).to_be_disabled()
    _watch(page, offsets, cut_after=10)
    page.locator("#choose").set_input_files(path)
    expect(page.locator("#transfers li[data-state=complete]")).to_be_visible(timeout=30_000)
    expect(page.get_by_role("button", name="Verify")).to_be_enabled()
    assert [int(offset) for offset in offsets] == [0, CHUNK, CHUNK, 2 * CHUNK]
    (stored,) = (running_portal.data_dir / "uploads").iterdir()
    assert stored.read_bytes() == path.read_bytes()
    assert not page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Give up this upload").click()
    expect(page.get_by_text("was given up and its files were removed")).to_be_visible()
    assert not stored.exists()


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


def _sign_in(page: Page, portal: RunningPortal) -> None:
    page.goto(portal.url)
    page.get_by_label("Email").fill(portal.email)
    page.get_by_label("Password").fill(portal.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda url: "login" not in url)
