"""A model under a licence with conditions, in a browser: refused, read, agreed to, deployed; nobody is asked twice."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.calls import api, wait_until
from tests.factories import tiny_weights as tiny
from tests.fakes.hub import TestHub
from tests.running import RunningPortal

pytestmark = [pytest.mark.browser, pytest.mark.portal, pytest.mark.xdist_group("portal")]


def test_who_agrees_may_deploy(page: Page, running_portal: RunningPortal, portals_hub: TestHub) -> None:
    portals_hub.reset()
    portals_hub.add("org/asks-first", {"tiny-Q4_0.gguf": tiny.gguf(seed=41)}, card={"license": "llama3.1"})
    client = api(running_portal)
    weights = client.post("/weights/imports", json={"repo": "org/asks-first"}).json()
    wait_until(lambda: client.get(f"/weights/{weights['id']}").json()["status"] == "ready", seconds=30)
    refused = client.post("/deployments", json={"model": weights["model"], "hardware": "cpu-small"})
    assert (refused.status_code, refused.json()["code"]) == (403, "licence_not_agreed")

    page.goto(refused.json()["agree_at"].replace("/licences/agree/", "/deployments/new"))
    page.get_by_label("Email").fill(running_portal.email)
    page.get_by_label("Password").fill(running_portal.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(re.compile("/deployments/new"))
    gate = page.locator("#licences")
    expect(gate.get_by_text("Llama 3.1 Community License")).to_be_visible()
    expect(gate.get_by_text("Commercial use is allowed below 700 million")).to_be_visible()
    deploy = page.get_by_role("button", name="Deploy", exact=True)
    deploy.click()
    expect(page.get_by_text("Agree to the licence first.")).to_be_visible()

    page.get_by_label("Use", exact=True).select_option("product")
    expect(gate.get_by_text("for product use")).to_be_visible()
    page.get_by_label("I have read it").check()
    page.get_by_label("Most replicas").fill("2")  # what is drawn anew meanwhile keeps the tick
    expect(page.locator("#estimate").get_by_text("with all 2")).to_be_visible()
    expect(page.get_by_label("I have read it")).to_be_checked()
    deploy.click()
    page.wait_for_url(re.compile(r"/deployments/[0-9a-f-]{36}"))
    made = page.url.rstrip("/").rpartition("/")[2]
    (kept,) = client.get("/licences/agreements").json()["results"]
    assert (kept["licence"], kept["use"], kept["agreed_by"]) == ("llama-3.1", "product", running_portal.email)

    page.goto(f"{running_portal.url}/deployments/new?model={weights['model']}")
    expect(gate.get_by_text("asks first")).to_be_visible()  # for internal use nobody has agreed
    page.get_by_label("Use", exact=True).select_option("product")
    expect(gate.get_by_text("agreed for product use")).to_be_visible()
    client.delete(f"/deployments/{made}")
    wait_until(lambda: client.get(f"/deployments/{made}").json()["status"] == "stopped", seconds=30)
