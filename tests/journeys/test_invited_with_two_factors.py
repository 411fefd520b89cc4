"""A colleague is invited to look at the bill, joins, sets up a second factor, and signs in with it."""

import re
from collections.abc import Callable
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect

from tests import authenticator
from tests.browsing import WIDE, sign_in
from tests.running import RunningPortal

pytestmark = [pytest.mark.browser, pytest.mark.portal, pytest.mark.xdist_group("portal")]

PASSWORD = "a-long-quiet-river"


def test_a_colleague_gets_read_only_billing_access_and_a_second_factor(
    opened: Callable[[tuple[int, int]], Page], running_portal: RunningPortal
) -> None:
    portal, address = running_portal, f"books-{uuid4().hex[:8]}@example.com"
    named = portal.url.replace("127.0.0.1", "localhost")  # browsers know no passkey at an address of numbers
    owner = opened(WIDE)
    sign_in(owner, portal)
    link = _invite(owner, portal, address)
    colleague = opened(WIDE)
    _join(colleague, link.replace(portal.url, named))
    _sees_the_bill_alone(colleague, named)
    secret, recovery = _set_up(colleague, named)
    _signs_in_with_a_passkey(colleague, named)
    _signs_in_with(opened(WIDE), portal, address, authenticator.code(secret, steps_later=1))
    _signs_in_with(opened(WIDE), portal, address, recovery)
    owner.goto(f"{portal.url}/team/audit/?actor={address}")
    expect(owner.get_by_text("the authenticator app")).to_be_visible()


def _invite(page: Page, portal: RunningPortal, address: str) -> str:
    page.goto(f"{portal.url}/team/")
    page.get_by_label("E-mail address").fill(address)
    page.get_by_label("Billing", exact=False).first.check()
    page.get_by_role("button", name="Send the invitation").click()
    shown = page.locator("pre", has_text="/join/").text_content() or ""
    expect(page.get_by_role("heading", name=f"{address} is invited as billing")).to_be_visible()
    return shown.strip()


def _join(page: Page, link: str) -> None:
    page.goto(link)
    page.get_by_label("Choose a password").fill(PASSWORD)
    page.get_by_label("The same again").fill(PASSWORD)
    page.get_by_role("button", name="Make my account and join").click()
    expect(page.get_by_text("you are billing here")).to_be_visible()


def _sees_the_bill_alone(page: Page, url: str) -> None:
    page.goto(f"{url}/billing/")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.goto(f"{url}/keys/")
    expect(page.get_by_text("An owner, admin or developer can make them")).to_be_visible()
    expect(page.get_by_role("button", name="Make key")).to_have_count(0)
    refused = page.goto(f"{url}/deployments/new?model=smollm2-135m-instruct")
    assert refused
    assert refused.status == 403


def _set_up(page: Page, url: str) -> tuple[str, str]:
    """The app's secret, and one of the recovery codes."""
    page.goto(f"{url}/accounts/2fa/")
    page.get_by_role("link", name="Set up the app").click()
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Go on").click()
    secret = page.get_by_label(re.compile("type this secret")).input_value()
    page.get_by_label("Code", exact=True).fill(authenticator.code(secret))
    page.get_by_role("button", name="Turn it on").click()
    expect(page.get_by_text("10 of 10 are left")).to_be_visible()
    return secret, page.locator("#recovery_codes li").first.text_content() or ""


def _signs_in_with_a_passkey(page: Page, url: str) -> None:
    device = page.context.new_cdp_session(page)
    device.send("WebAuthn.enable")
    options = {"protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True}
    options |= {"isUserVerified": True, "automaticPresenceSimulation": True}
    device.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    page.goto(f"{url}/accounts/2fa/webauthn/add/")
    page.get_by_label("Name").fill("laptop")
    page.get_by_label("It signs me in by itself").check()
    page.get_by_role("button", name="Add it").click()
    expect(page.get_by_role("heading", name="Passkeys and security keys")).to_be_visible()
    page.get_by_label("Team and account").click()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/accounts/login/")
    page.get_by_role("button", name="Use a passkey").click()
    page.wait_for_url(f"{url}/")


def _signs_in_with(page: Page, portal: RunningPortal, address: str, code: str) -> None:
    sign_in(page, portal, email=address, password=PASSWORD)
    expect(page.get_by_role("heading", name="One more step")).to_be_visible()
    page.goto(f"{portal.url}/billing/")
    assert "/accounts/2fa/authenticate/" in page.url  # the password alone opens nothing
    page.get_by_label("Code").fill(code)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url(f"{portal.url}/")
    page.context.close()
