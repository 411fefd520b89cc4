"""From a repository of the Hub to a live answer, in the browser of a phone: look, choose, import, deploy, call."""

import re

import pytest
from openai import OpenAI
from playwright.sync_api import Page, expect

from tests.browsing import sign_in
from tests.calls import api, wait_until
from tests.factories import tiny_weights as tiny
from tests.fakes.hub import TestHub
from tests.running import RunningPortal

pytestmark = [pytest.mark.browser, pytest.mark.portal, pytest.mark.xdist_group("portal")]


def test_an_imported_model_answers(phone: Page, running_portal: RunningPortal, portals_hub: TestHub) -> None:
    portals_hub.reset()
    names = {f"tiny-{kind}.gguf": tiny.gguf(seed=seed) for seed, kind in enumerate(["Q2_K", "Q4_K_M", "Q8_0"])}
    portals_hub.add("org/answers", names, card={"license": "mit"})
    portals_hub.bytes_per_s = 15_000  # eight seconds
    sign_in(phone, running_portal)
    phone.goto(f"{running_portal.url}/weights/import")
    phone.get_by_label("Repository").fill("org/answers")
    phone.get_by_role("button", name="Look").click()
    expect(phone.get_by_role("heading", name="org/answers")).to_be_visible()
    expect(phone.get_by_label("Q4_K_M")).to_be_checked()
    phone.get_by_label("Q8_0").check()
    phone.get_by_role("button", name="Import").click()
    phone.wait_for_url(re.compile(r"/weights/[0-9a-f-]{36}"))
    expect(phone.locator("#status progress")).to_be_visible()
    card = phone.url
    phone.locator("#deploy").click()
    phone.get_by_role("button", name=re.compile("^Deploy")).click()
    phone.wait_for_url(re.compile(r"/deployments/[0-9a-f-]{36}"))
    expect(phone.locator(".pill.downloading").first).to_be_visible()
    portals_hub.bytes_per_s = 0
    expect(phone.locator(".pill.ready").first).to_be_visible(timeout=40_000)
    endpoint = phone.locator("[data-endpoint-model]").first.get_attribute("data-endpoint-model") or ""
    client = OpenAI(base_url=f"{running_portal.url}/v1", api_key=running_portal.key, max_retries=0)
    answer = client.chat.completions.create(
        model=endpoint, messages=[{"role": "user", "content": "Hello."}], max_tokens=4
    )
    assert answer.usage
    assert answer.usage.completion_tokens > 0
    phone.goto(card)
    expect(phone.get_by_text(f"Not possible while they are used by {endpoint}")).to_be_visible()
    _stop(running_portal, endpoint)
    phone.reload()
    phone.on("dialog", lambda dialog: dialog.accept())
    phone.get_by_role("button", name=re.compile("^Remove v")).click()
    expect(phone.get_by_text("is removed, and its files with it")).to_be_visible()


def _stop(portal: RunningPortal, endpoint: str) -> None:
    client = api(portal)
    rows = client.get("/deployments").json()["results"]
    path = next(f"/deployments/{row['id']}" for row in rows if row["endpoint_model"] == endpoint)
    client.delete(path)
    wait_until(lambda: client.get(path).json()["status"] == "stopped", seconds=30)
