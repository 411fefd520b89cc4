"""Second factors: asked for at every sign-in, sealed at rest, required by teams that say so; one door for all."""

import re
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.test import Client

from accounts import keys
from accounts.models import AuditEvent, Membership, Role, User
from tests import authenticator
from tests.factories.accounts import MembershipFactory

pytestmark = pytest.mark.django_db
PASSWORD = "a-long-quiet-river"


@pytest.fixture
def ada() -> Membership:
    user = User.objects.create_user("ada@example.com", PASSWORD)
    return MembershipFactory(user=user, role=Role.OWNER)


def _signed_in(email: str = "ada@example.com") -> Client:
    browser = Client()
    browser.post("/accounts/login/", {"login": email, "password": PASSWORD})
    return browser


def _set_up(browser: Client) -> str:
    """Turn the app on; its secret."""
    asked = browser.get("/accounts/2fa/totp/activate/")
    assert asked["Location"].startswith("/accounts/reauthenticate/")  # a session alone changes nothing
    browser.post("/accounts/reauthenticate/", {"password": PASSWORD})
    page = browser.get("/accounts/2fa/totp/activate/").content.decode()
    (secret,) = re.findall(r'id="authenticator_secret" value="([A-Z2-7]+)"', page)
    answer = browser.post("/accounts/2fa/totp/activate/", {"code": authenticator.code(secret)})
    assert answer["Location"] == "/accounts/2fa/recovery-codes/"
    return secret


def test_once_set_up_a_password_alone_opens_nothing(ada: Membership, django_capture_on_commit_callbacks: Any) -> None:
    browser = _signed_in()
    with django_capture_on_commit_callbacks(execute=True):
        secret = _set_up(browser)
    codes = re.findall(r"<li>(\d{8})</li>", browser.get("/accounts/2fa/recovery-codes/").content.decode())
    assert len(codes) == 10
    again = Client()
    answer = again.post("/accounts/login/", {"login": ada.user.email, "password": PASSWORD})
    assert answer["Location"] == "/accounts/2fa/authenticate/"
    assert again.get("/").status_code == 302
    assert again.post("/accounts/2fa/authenticate/", {"code": "000000"}).status_code == 200
    assert "_auth_user_id" not in again.session
    again.post("/accounts/2fa/authenticate/", {"code": authenticator.code(secret, steps_later=1)})
    assert again.get("/").status_code == 200
    third = Client()
    third.post("/accounts/login/", {"login": ada.user.email, "password": PASSWORD})
    third.post("/accounts/2fa/authenticate/", {"code": codes[0]})
    assert third.get("/").status_code == 200
    verbs = list(ada.team.audit_events.values_list("verb", "subject"))
    assert ("set up", "the authenticator app") in verbs


def test_its_secret_is_sealed_at_rest(ada: Membership) -> None:
    secret = _set_up(_signed_in())
    rows = str(list(Authenticator.objects.values_list("data", flat=True)))
    assert secret not in rows
    assert "gAAAA" in rows


def test_the_administration_has_no_door_of_its_own(ada: Membership) -> None:
    User.objects.filter(pk=ada.user.pk).update(is_staff=True, is_superuser=True)
    _set_up(_signed_in())
    browser = Client()
    door = browser.post("/admin/login/", {"username": ada.user.email, "password": PASSWORD})
    assert door["Location"].startswith("/accounts/login/?next=")
    assert browser.get("/admin/accounts/user/").status_code == 302


def test_a_team_that_requires_it_lets_nobody_in_without(ada: Membership) -> None:
    _, key = keys.issue(ada.team, name="ci")
    member = MembershipFactory(team=ada.team, role=Role.DEVELOPER)
    colleague = Client()
    colleague.force_login(member.user)
    owner = _signed_in()
    assert owner.post("/team/two-factor/", {"require": "yes"}).status_code == 409
    _set_up(owner)
    assert owner.post("/team/two-factor/", {"require": "yes"}).status_code == 302
    assert owner.get("/team/").status_code == 200
    for path in ("/", "/keys/", "/billing/", "/deployments/", "/playground/", "/team/"):
        assert colleague.get(path)["Location"] == "/team/two-factor/required/", path
    asked = colleague.get("/api/v1/deployments")
    assert (asked.status_code, asked.json()["code"]) == (403, "two_factor_required")
    chat = colleague.post("/playground/answer", {"model": "x"}, content_type="application/json")
    assert (chat.status_code, chat.json()["error"]["code"]) == (403, "two_factor_required")
    assert "none yet" in colleague.get("/team/two-factor/required/").content.decode()
    assert Client(headers={"authorization": f"Bearer {key}"}).get("/api/v1/deployments").status_code == 200
    event = AuditEvent.objects.get(team=ada.team, verb="changed the team")
    assert (event.before, event.after) == ({"two-factor required": False}, {"two-factor required": True})


@pytest.mark.parametrize("role", [Role.DEVELOPER, Role.BILLING, Role.VIEWER])
def test_only_who_manages_the_team_may_require_it(client: Client, role: Role) -> None:
    client.force_login(MembershipFactory(role=role).user)
    assert client.post("/team/two-factor/", {"require": "yes"}).status_code == 403


def test_the_other_sessions_are_listed_and_ended(ada: Membership) -> None:
    here, there = _signed_in(), _signed_in()
    assert "Sign out everywhere else" in here.get("/accounts/sessions/").content.decode()
    here.post("/accounts/sessions/")
    assert here.get("/").status_code == 200
    assert there.get("/")["Location"].startswith("/accounts/login/")


def test_a_passkey_is_asked_for_with_what_the_browser_needs(ada: Membership) -> None:
    browser = _signed_in()
    browser.post("/accounts/reauthenticate/", {"password": PASSWORD})
    page = browser.get("/accounts/2fa/webauthn/add/").content.decode()
    assert '"challenge"' in page
    assert "mfa/js/webauthn." in page
    assert browser.post("/accounts/2fa/webauthn/add/", {"name": "x", "credential": "{}"}).status_code in {200, 400}
    offer = Client().get("/accounts/2fa/webauthn/login/", headers={"accept": "application/json"})
    assert "request_options" in offer.json()
    assert not Authenticator.objects.exists()


@pytest.mark.parametrize("page", ["/accounts/login/", "/accounts/2fa/", "/accounts/2fa/totp/activate/"])
def test_no_page_of_an_account_has_a_script_inside(ada: Membership, page: str) -> None:
    text = (
        _signed_in().get(page).content.decode() if page != "/accounts/login/" else Client().get(page).content.decode()
    )
    for tag in re.findall(r"<script[^>]*>", text):
        assert " src=" in tag or 'type="application/json"' in tag
    assert not re.search(r"\son[a-z]+=", text)
