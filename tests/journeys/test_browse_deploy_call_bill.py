"""The road of a stranger: sign in, find a model, deploy it, talk to it, see what it cost, take the month's CSV."""

import csv
import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browsing import sign_in
from tests.running import RunningPortal

pytestmark = [pytest.mark.browser, pytest.mark.portal, pytest.mark.xdist_group("portal")]


def test_a_stranger_deploys_talks_and_takes_the_bill(page: Page, running_portal: RunningPortal, tmp_path: Path) -> None:
    sign_in(page, running_portal)
    _find_smollm2(page, running_portal)
    endpoint = _deploy(page)
    _chat(page, running_portal, model=endpoint)
    hosted_cost = _chat(page, running_portal, model="smollm2-135m-instruct")
    assert hosted_cost > 0
    rows = _month_csv(page, running_portal, tmp_path)
    assert {row["path"] for row in rows} == {"hosted", "serverless"}
    assert sum(Decimal(row["cost"]) for row in rows) == _ledger_total(running_portal)
    _a_bar_leads_to_its_rows(page, running_portal)
    _stop(page, running_portal, endpoint)


def _find_smollm2(page: Page, portal: RunningPortal) -> None:
    """From the keyboard alone: `/` to the search, arrows to the card, Enter."""
    page.goto(f"{portal.url}/models/")
    search, cards = page.get_by_role("searchbox"), page.locator("article.card h3 a")
    page.keyboard.press("/")
    expect(search).to_be_focused()
    page.keyboard.type("smollm2")
    expect(page.get_by_text("Claude Opus 4.7")).to_have_count(0)
    page.keyboard.press("ArrowDown")
    expect(cards.first).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(search).to_be_focused()
    with page.expect_response(re.compile(r"/models/\?.*q=smollm2-"), timeout=10_000):
        page.keyboard.type("-1")
        page.keyboard.press("ArrowDown")  # before the answer is there
    expect(page.locator("#results")).to_contain_text("smollm2-1")
    expect(cards.first).to_be_focused()
    expect(cards.first).to_contain_text("SmolLM2")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("SmolLM2")


def _deploy(page: Page) -> str:
    page.get_by_role("link", name="Deploy it", exact=True).first.click()
    page.wait_for_url(re.compile("/deployments/new"))
    page.get_by_role("button", name=re.compile("^Deploy")).click()
    page.wait_for_url(re.compile(r"/deployments/[0-9a-f-]{36}"))
    expect(page.locator(".pill.ready").first).to_be_visible(timeout=60_000)
    return page.locator("[data-endpoint-model]").first.get_attribute("data-endpoint-model") or ""


def _chat(page: Page, portal: RunningPortal, *, model: str) -> Decimal:
    page.goto(f"{portal.url}/playground/?model={model}")
    page.get_by_label("Message").fill("Name one colour of the rainbow.")
    page.get_by_role("button", name="Send").click()
    receipt = page.locator("[data-receipt]").last
    expect(receipt).to_be_visible(timeout=60_000)
    expect(receipt).to_contain_text("tokens")
    expect(receipt).to_contain_text("$")
    return Decimal(receipt.get_attribute("data-cost-usd") or "-1")


def _month_csv(page: Page, portal: RunningPortal, folder: Path) -> list[dict[str, str]]:
    page.goto(f"{portal.url}/billing/")
    expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name=re.compile("CSV")).first.click()
    path = folder / f"{datetime.now(UTC):%Y-%m}.csv"
    download.value.save_as(path)
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _a_bar_leads_to_its_rows(page: Page, portal: RunningPortal) -> None:
    """The chart's colours follow the scheme while it is open; the keyboard reaches today's bar, and Enter its rows."""
    page.goto(f"{portal.url}/billing/?split=path")
    bar = page.locator("#chart .barlayer .point path").first
    light = bar.evaluate("bar => getComputedStyle(bar).fill")
    page.emulate_media(color_scheme="dark")
    expect(bar).not_to_have_css("fill", light)
    page.locator("#chart").focus()
    for _ in range(datetime.now(UTC).day):
        page.keyboard.press("ArrowRight")
    chosen = re.search(r"\$([\d.]+)$", page.locator("#chosen").text_content() or "")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/billing/rows/"))
    total = page.locator("[data-total]").get_attribute("data-total")
    assert chosen
    assert Decimal(chosen[1]) == Decimal(total or 0) > 0


def _ledger_total(portal: RunningPortal) -> Decimal:
    with portal.db() as connection:
        row = connection.execute(
            "SELECT coalesce(sum(amount), 0) FROM billing_ledgerentry l"
            " JOIN accounts_team t ON t.id = l.team_id WHERE t.slug = 'demo'"
        ).fetchone()
    assert row
    return Decimal(row[0])


def _stop(page: Page, portal: RunningPortal, endpoint: str) -> None:
    page.goto(f"{portal.url}/deployments/")
    page.get_by_role("link", name=endpoint.split("/")[1]).first.click()
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name=re.compile("^Stop")).first.click()
    expect(page.locator(".pill.stopped").first).to_be_visible()
