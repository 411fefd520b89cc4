"""Sign-up, sign-in and password reset, with real CSRF tokens, through the mail box."""

import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.core import mail
from django.test import Client

from accounts.models import Membership, Role, User

pytestmark = pytest.mark.django_db

PASSWORD = "a-long-quiet-river"
TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')


@pytest.fixture
def strict() -> Client:
    """A browser whose CSRF tokens are checked."""
    return Client(enforce_csrf_checks=True)


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada@example.com", PASSWORD)


def test_signing_up_makes_a_team_and_signs_in(strict: Client) -> None:
    answer = _fill(strict, "/accounts/signup/", email="Ada@Example.com", password1=PASSWORD, password2=PASSWORD)
    assert (answer.status_code, answer["Location"]) == (302, "/")
    membership = Membership.objects.get(user__email="ada@example.com")
    assert (membership.team.name, membership.team.slug, membership.role) == ("ada", "ada", Role.OWNER)
    assert strict.get("/team/").status_code == 200


def test_the_same_address_signs_up_once(strict: Client, ada: User) -> None:
    _fill(strict, "/accounts/signup/", email="ADA@example.com", password1=PASSWORD, password2=PASSWORD)
    assert User.objects.count() == 1
    assert Membership.objects.count() == 0


@pytest.mark.parametrize("password", ["short", "12345678901", "password"])
def test_a_weak_password_is_refused_with_the_reason(strict: Client, password: str) -> None:
    answer = _fill(strict, "/accounts/signup/", email="ada@example.com", password1=password, password2=password)
    assert answer.status_code == 200
    assert "errorlist" in answer.content.decode()
    assert not User.objects.exists()


def test_sign_up_can_be_closed(strict: Client, settings: Any) -> None:
    settings.SIGN_UP_OPEN = False
    assert "Sign-up is closed" in strict.get("/accounts/signup/").content.decode()
    token = _token(strict, "/accounts/login/")
    fields = {"email": "ada@example.com", "password1": PASSWORD, "password2": PASSWORD, "csrfmiddlewaretoken": token}
    assert "Sign-up is closed" in strict.post("/accounts/signup/", fields).content.decode()
    assert not User.objects.exists()


def test_signing_in_returns_to_where_one_came_from(strict: Client, ada: User) -> None:
    page = strict.get("/team/new/")
    assert page["Location"] == "/accounts/login/?next=/team/new/"
    answer = _fill(strict, page["Location"], login="ADA@example.com", password=PASSWORD)
    assert answer["Location"] == "/team/new/"
    assert strict.get("/team/new/").status_code == 200


def test_without_its_csrf_token_nobody_signs_in(strict: Client, ada: User) -> None:
    answer = strict.post("/accounts/login/", {"login": ada.email, "password": PASSWORD})
    assert answer.status_code == 403
    assert "This page was too old" in answer.content.decode()
    assert "_auth_user_id" not in strict.session


def test_a_wrong_password_and_an_unknown_address_look_the_same(strict: Client, ada: User) -> None:
    wrong = _fill(strict, "/accounts/login/", login=ada.email, password="no")
    unknown = _fill(strict, "/accounts/login/", login="bob@example.com", password="no")
    errors = [re.findall(r'<ul class="errorlist.*?</ul>', page.content.decode(), re.S) for page in (wrong, unknown)]
    assert errors[0]
    assert errors[0] == errors[1]


def test_signing_out_asks_for_a_post(strict: Client, ada: User) -> None:
    strict.force_login(ada)
    assert strict.get("/accounts/logout/").status_code == 200
    assert "_auth_user_id" in strict.session
    assert _fill(strict, "/accounts/logout/").status_code == 302
    assert "_auth_user_id" not in strict.session


def test_a_forgotten_password_is_set_anew_through_the_mail(strict: Client, ada: User) -> None:
    answer = _fill(strict, "/accounts/password/reset/", email=ada.email)
    assert answer["Location"] == "/accounts/password/reset/done/"
    assert strict.get(answer["Location"]).status_code == 200
    (message,) = mail.outbox
    assert message.subject == "[Modelport] Choose a new password"
    form = strict.get(_path_in(message.body), follow=True)
    new = "another-long-quiet-river"
    _post(strict, form.request["PATH_INFO"], form.content.decode(), password1=new, password2=new)
    ada.refresh_from_db()
    assert ada.check_password(new)
    assert "This link is used up" in Client().get(_path_in(message.body)).content.decode()


def test_a_forged_host_does_not_get_the_reset_link(settings: Any, ada: User) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    settings.PUBLIC_URL = "https://models.example.org"
    Client(headers={"host": "evil.example"}).post("/accounts/password/reset/", {"email": ada.email})
    (message,) = mail.outbox
    assert "evil.example" not in message.body + message.subject
    assert "https://models.example.org/accounts/password/reset/key/" in message.body


def test_an_unknown_address_gets_the_same_page(strict: Client) -> None:
    answer = _fill(strict, "/accounts/password/reset/", email="nobody@example.com")
    assert answer["Location"] == "/accounts/password/reset/done/"


def test_an_address_is_confirmed_through_the_mail(strict: Client) -> None:
    _fill(strict, "/accounts/signup/", email="ada@example.com", password1=PASSWORD, password2=PASSWORD)
    (message,) = mail.outbox
    assert "Confirm it here" in message.body
    path = _path_in(message.body)
    assert "Is this your address?" in strict.get(path).content.decode()
    assert _fill(strict, path).status_code == 302
    assert "confirmed</span>" in strict.get("/accounts/email/").content.decode()


@pytest.mark.parametrize(
    "path",
    [
        *["password/change/", "email/", "logout/", "reauthenticate/", "confirm-email/", "inactive/"],
        *["2fa/", "2fa/webauthn/", "sessions/", "3rdparty/", "3rdparty/login/error/", "3rdparty/login/cancelled/"],
    ],
)
def test_every_page_of_an_account_has_the_portal_s_look(client: Client, ada: User, path: str) -> None:
    client.force_login(ada)
    page = client.get(f"/accounts/{path}")
    assert page.status_code in {200, 401}
    assert "css/portal." in page.content.decode()
    assert 'class="entrance' in page.content.decode()


def _fill(browser: Client, address: str, **fields: str) -> Any:
    """Open the page and send its form, token included, as a browser does."""
    return _post(browser, address, browser.get(address).content.decode(), **fields)


def _post(browser: Client, address: str, page: str, **fields: str) -> Any:
    hidden = dict(re.findall(r'type="hidden" name="(next)" value="([^"]*)"', page))
    (token, *_) = TOKEN.findall(page)
    return browser.post(address, {"csrfmiddlewaretoken": token} | hidden | fields)


def _token(browser: Client, address: str) -> str:
    return TOKEN.findall(browser.get(address).content.decode())[0]


def _path_in(body: str) -> str:
    (link,) = re.findall(r"https?://\S+/accounts/\S+", body)
    return urlsplit(link).path
