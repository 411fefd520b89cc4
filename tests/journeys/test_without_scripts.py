"""What is promised to browsers that run no script: to find a model, deploy it, stop it, and take the month's file."""

import csv
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browsing import sign_in
from tests.running import RunningPortal

pytestmark = [pytest.mark.browser, pytest.mark.portal, pytest.mark.xdist_group("portal")]
NAME = "without-scripts"


def test_browse_deploy_and_download_need_no_script(
    scriptless: Page, running_portal: RunningPortal, tmp_path: Path
) -> None:
    page = scriptless
    sign_in(page, running_portal)
    _find_smollm2(page)
    _deploy(page)
    _reload_until(page, "ready")
    page.get_by_role("button", name="Stop").click()
    _reload_until(page, "stopped")
    assert NAME in {row["deployment"] for row in _month_csv(page, tmp_path)}


def _find_smollm2(page: Page) -> None:
    page.get_by_label("Main").get_by_role("link", name="Models", exact=True).click()
    page.get_by_role("searchbox").fill("smollm2")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Claude Opus 4.7")).to_have_count(0)
    page.locator("article.card").get_by_role("link", name=re.compile("SmolLM2-135M", re.I)).first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("SmolLM2")


def _deploy(page: Page) -> None:
    page.get_by_role("link", name="Deploy it", exact=True).click()
    page.get_by_label("Name", exact=True).fill(NAME)
    page.get_by_role("button", name="Deploy", exact=True).click()
    page.wait_for_url(re.compile(r"/deployments/[0-9a-f-]{36}"))


def _reload_until(page: Page, state: str) -> None:
    """The page of somebody who reloads it by hand."""
    for _ in range(120):
        if page.locator(f"#state.{state}").count():
            return
        page.wait_for_timeout(500)
        page.reload()
    pytest.fail(f"not {state} within a minute")


def _month_csv(page: Page, folder: Path) -> list[dict[str, str]]:
    page.get_by_label("Main").get_by_role("link", name="Costs", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download CSV").click()
    path = folder / "month.csv"
    download.value.save_as(path)
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
