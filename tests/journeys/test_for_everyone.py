"""Every page in a browser, light and dark: axe-core finds nothing serious, and nothing is wider than a phone."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from scripts.shots import PAGES
from tests.browsing import sign_in
from tests.running import RunningPortal

pytestmark = [pytest.mark.browser, pytest.mark.portal, pytest.mark.xdist_group("portal")]
GRAVE = {"serious", "critical"}
RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}
CONTRAST = {"runOnly": {"type": "rule", "values": ["color-contrast"]}}


def test_no_page_keeps_anybody_out(phone: Page, running_portal: RunningPortal) -> None:
    sign_in(phone, running_portal)
    found = []
    for name, path in PAGES.items():
        phone.emulate_media(color_scheme="light")
        phone.goto(running_portal.url + path)
        found += _grave(phone, name, RULES)
        phone.emulate_media(color_scheme="dark")
        found += _grave(phone, f"{name}, dark", CONTRAST)
        if phone.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            found.append(f"{name}: wider than a phone")
    assert found == []


def _grave(page: Page, name: str, options: dict[str, object]) -> list[str]:
    """`page: rule: the elements`."""
    violations = Axe().run(page, options=options).response["violations"]
    return [
        f"{name}: {one['id']}: {', '.join(str(node['target'][0]) for node in one['nodes'][:3])}"
        for one in violations
        if one["impact"] in GRAVE
    ]
