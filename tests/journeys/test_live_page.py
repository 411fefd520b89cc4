"""A deployment's page in a browser: it goes from pending to ready, and its log grows, without a reload."""

import pytest
from playwright.sync_api import Page, expect

from tests.browsing import sign_in
from tests.calls import api, wait_until
from tests.running import RunningPortal

pytestmark = [pytest.mark.browser, pytest.mark.portal, pytest.mark.xdist_group("portal")]


def test_a_page_that_is_left_open_tells_all_that_happens(page: Page, running_portal: RunningPortal) -> None:
    client = api(running_portal)
    sign_in(page, running_portal)
    page.goto(f"{running_portal.url}/models/smollm2-135m-instruct/")
    page.get_by_role("link", name="Deploy it", exact=True).first.click()
    page.get_by_label("Name", exact=True).fill("watched")
    page.get_by_role("button", name="Deploy").first.click()
    page.wait_for_url("**/deployments/*-*/")
    page.evaluate("window.neverReloaded = true")
    expect(page.locator("[data-live-state]")).to_have_text("· live")
    expect(page.locator("#state")).to_have_text("ready", timeout=60_000)
    expect(page.locator(".phases .done").last).to_contain_text("Ready")
    expect(page.locator(".replicas-table tbody tr")).to_have_count(1)

    ask = {"model": "demo/watched", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8}
    answer = client.post(f"{running_portal.url}/v1/chat/completions", json=ask)
    assert answer.status_code == 200, answer.text
    expect(page.get_by_text("in the last hour").first).to_contain_text("1 in the last hour")
    assert page.evaluate("window.neverReloaded")

    page.get_by_role("link", name="Logs").click()
    expect(page.locator("#log")).to_contain_text("loading model")
    lines = page.locator("#log span").count()
    client.post(f"{running_portal.url}/v1/chat/completions", json=ask)
    expect(page.locator("#log span").nth(lines)).to_be_attached()
    page.get_by_label("Search the log").fill("LOADING MODEL")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#log mark").first).to_have_text("loading model")

    page.on("dialog", lambda dialog: dialog.accept())
    page.evaluate("window.neverReloaded = true")
    (row,) = [one for one in client.get("/deployments").json()["results"] if one["name"] == "watched"]
    client.delete(f"/deployments/{row['id']}")
    expect(page.locator("#state")).to_have_text("stopped")
    assert page.evaluate("window.neverReloaded")
    wait_until(lambda: client.get(f"/deployments/{row['id']}").json()["status"] == "stopped", seconds=10)


def test_a_page_that_finds_no_seat_asks_for_itself(page: Page, running_portal: RunningPortal) -> None:
    sign_in(page, running_portal)
    page.route("**/deployments/stream*", lambda route: route.fulfill(status=503, body="full"))
    page.goto(f"{running_portal.url}/deployments/")
    expect(page.locator("[data-live-state]")).to_have_text("· every few seconds")
    made = api(running_portal).post(
        "/deployments", json={"model": "smollm2-135m-instruct", "hardware": "cpu-small", "name": "asked-for"}
    )
    assert made.status_code == 201, made.text
    expect(page.get_by_role("link", name="asked-for")).to_be_visible()
    api(running_portal).delete(f"/deployments/{made.json()['id']}")
    expect(page.locator("tr", has_text="asked-for").locator(".pill.stopped")).to_be_visible()
