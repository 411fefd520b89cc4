"""From a repository of the Hub to a live answer, in the browser of a phone: look, choose, import, deploy, call."""

import re
from collections.abc import Iterator

import pytest
from openai import OpenAI
from playwright.sync_api import Page, expect, sync_playwright

from tests.calls import api, wait_until
from tests.factories import tiny_weights as tiny
from tests.fakes.hub import TestHub
from tests.running import RunningPortal

pytestmark = [pytest.mark.browser, pytest.mark.portal, pytest.mark.xdist_group("portal")]

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


@pytest.fixture
def page(chromium_path: str) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=QUIET)
        page = browser.new_context(viewport={"width": 390, "height": 844}).new_page()
        failures: list[str] = []
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.on("console", lambda said: failures.append(said.text) if said.type == "error" else None)
        yield page
        browser.close()
        assert failures == []


def test_an_imported_model_answers(page: Page, running_portal: RunningPortal, portals_hub: TestHub) -> None:
    portals_hub.reset()
    names = {f"tiny-{kind}.gguf": tiny.gguf(seed=seed) for seed, kind in enumerate(["Q2_K", "Q4_K_M", "Q8_0"])}
    portals_hub.add("org/answers", names, card={"license": "mit"})
    portals_hub.bytes_per_s = 30_000  # four seconds
    _sign_in(page, running_portal)
    page.goto(f"{running_portal.url}/weights/import")
    page.get_by_label("Repository").fill("org/answers")
    page.get_by_role("button", name="Look").click()
    expect(page.get_by_role("heading", name="org/answers")).to_be_visible()
    expect(page.get_by_label("Q4_K_M")).to_be_checked()
    page.get_by_label("Q8_0").check()
    page.get_by_role("button", name="Import").click()
    page.wait_for_url(re.compile(r"/weights/[0-9a-f-]{36}"))
    expect(page.locator("#status progress")).to_be_visible()
    card = page.url
    page.locator("#deploy").click()
    page.get_by_role("button", name=re.compile("^Deploy")).click()
    page.wait_for_url(re.compile(r"/deployments/[0-9a-f-]{36}"))
    expect(page.locator(".pill.downloading").first).to_be_visible(timeout=10_000)
    portals_hub.bytes_per_s = 0
    expect(page.locator(".pill.ready").first).to_be_visible(timeout=40_000)
    endpoint = page.locator("[data-endpoint-model]").first.get_attribute("data-endpoint-model") or ""
    client = OpenAI(base_url=f"{running_portal.url}/v1", api_key=running_portal.key, max_retries=0)
    answer = client.chat.completions.create(
        model=endpoint, messages=[{"role": "user", "content": "Hello."}], max_tokens=4
    )
    assert answer.usage
    assert answer.usage.completion_tokens > 0
    page.goto(card)
    expect(page.get_by_text(f"Not possible while they are used by {endpoint}")).to_be_visible()
    _stop(running_portal, endpoint)
    page.reload()
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name=re.compile("^Remove v")).click()
    expect(page.get_by_text("is removed, and its files with it")).to_be_visible()


def _sign_in(page: Page, portal: RunningPortal) -> None:
    page.goto(portal.url)
    page.get_by_label("Email").fill(portal.email)
    page.get_by_label("Password").fill(portal.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda url: "login" not in url)


def _stop(portal: RunningPortal, endpoint: str) -> None:
    client = api(portal)
    rows = client.get("/deployments").json()["results"]
    path = next(f"/deployments/{row['id']}" for row in rows if row["endpoint_model"] == endpoint)
    client.delete(path)
    wait_until(lambda: client.get(path).json()["status"] == "stopped", seconds=30)
