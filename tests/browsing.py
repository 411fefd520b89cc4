"""A real browser for the journeys: a wide page and a phone's, signed in through the form."""

import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.running import RunningPortal

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
REFUSED = "Content Security Policy"
WIDE, PHONE = (1440, 900), (390, 844)

# A page that answers at once in an empty house may take long on a full machine; what never comes is still a failure.
expect.set_options(timeout=30_000)


def chromium() -> str | None:
    """A Chromium of this machine's packages."""
    return next(filter(None, map(shutil.which, CHROMIUMS)), None)


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """Of chromium(); the test is skipped, visibly, where there is none."""
    found = chromium()
    if found is None:
        pytest.skip("no Chromium on PATH: install it (Debian: apt-get install chromium) to run the browser tests")
    return found


@pytest.fixture
def browser(chromium_path: str) -> Iterator[Browser]:
    """Of one test alone: a browser that stays open would keep its event loop from the tests that are async."""
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=chromium_path, args=QUIET)


@pytest.fixture
def opened(browser: Browser) -> Iterator[Callable[[tuple[int, int]], Page]]:
    """Opens pages of a size (in px). A script that failed on one of them, or was refused, is the test's failure."""
    failures: list[str] = []

    def open_page(size: tuple[int, int]) -> Page:
        page = browser.new_context(viewport={"width": size[0], "height": size[1]}).new_page()
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.on("console", lambda said: failures.append(said.text) if REFUSED in said.text else None)
        return page

    yield open_page
    browser.close()
    assert failures == []


@pytest.fixture
def page(opened: Callable[[tuple[int, int]], Page]) -> Page:
    return opened(WIDE)


@pytest.fixture
def phone(opened: Callable[[tuple[int, int]], Page]) -> Page:
    return opened(PHONE)


@pytest.fixture
def scriptless(browser: Browser) -> Iterator[Page]:
    """A page on which no script runs."""
    yield browser.new_context(viewport={"width": WIDE[0], "height": WIDE[1]}, java_script_enabled=False).new_page()
    browser.close()


def sign_in(page: Page, portal: RunningPortal, *, email: str = "", password: str = "") -> None:
    """As the portal's first user, or as somebody else."""
    page.goto(portal.url)
    page.get_by_label("Email").fill(email or portal.email)
    page.get_by_label("Password").fill(password or portal.password)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url(lambda url: "login" not in url)
