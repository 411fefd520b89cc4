"""Sign-on through an OpenID Connect provider, over a real socket: who is new, who is known, who is refused."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from django.test import Client

from accounts.models import Membership, Role, User
from tests.fakes import oidc
from tests.fakes.oidc import OidcProvider

pytestmark = pytest.mark.django_db


@pytest.fixture
def provider(settings: Any) -> Iterator[OidcProvider]:
    with oidc.running() as found:
        app = {
            "provider_id": "oidc", "name": "Example Corp", "client_id": oidc.CLIENT_ID, "secret": oidc.CLIENT_SECRET,
            "settings": {"server_url": found.issuer},
        }  # fmt: skip
        settings.SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"OAUTH_PKCE_ENABLED": True, "APPS": [app]}}
        found.person = {"sub": "42", "email": "ada@example.com", "email_verified": True, "name": "Ada"}
        yield found


def _through(browser: Client, *, process: str = "login") -> Any:
    """The browser's way: our button, the provider's yes, back to us."""
    away = browser.post(f"/accounts/oidc/oidc/login/?process={process}")
    back = httpx.get(away["Location"], follow_redirects=False).headers["location"]
    parts = urlsplit(back)
    return browser.get(f"{parts.path}?{parts.query}")


def test_somebody_new_gets_an_account_and_a_team(provider: OidcProvider, settings: Any) -> None:
    settings.SIGN_UP_OPEN = False
    browser = Client()
    assert "Continue with Example Corp" in browser.get("/accounts/login/").content.decode()
    assert _through(browser)["Location"] == "/"
    membership = Membership.objects.get(user__email="ada@example.com")
    assert (membership.role, membership.team.name) == (Role.OWNER, "ada")
    again = Client()
    _through(again)
    assert again.session["_auth_user_id"] == str(membership.user.pk)


def test_the_sign_on_can_be_closed_to_new_people(provider: OidcProvider, settings: Any) -> None:
    settings.SIGN_UP_OPEN = settings.OIDC_SIGN_UP = False
    browser = Client()
    _through(browser)
    assert not User.objects.exists()
    assert "_auth_user_id" not in browser.session


@pytest.mark.parametrize(
    ("trusted", "verified", "gets_in"), [(False, True, False), (True, False, False), (True, True, True)]
)
def test_an_address_that_has_an_account_opens_it_only_where_the_provider_is_trusted(
    provider: OidcProvider, settings: Any, trusted: bool, verified: bool, gets_in: bool
) -> None:
    settings.SOCIALACCOUNT_EMAIL_AUTHENTICATION = settings.SOCIALACCOUNT_EMAIL_AUTHENTICATION_AUTO_CONNECT = trusted
    provider.person["email_verified"] = verified
    ada = User.objects.create_user("ada@example.com", "a-long-quiet-river")
    browser = Client()
    _through(browser)
    assert (browser.session.get("_auth_user_id") == str(ada.pk)) is gets_in
    assert User.objects.count() == 1


def test_an_answer_that_was_not_asked_for_signs_nobody_in(provider: OidcProvider) -> None:
    asked = Client()
    away = asked.post("/accounts/oidc/oidc/login/?process=login")
    back = urlsplit(httpx.get(away["Location"]).headers["location"])
    victim = Client()
    victim.get(f"{back.path}?{back.query}")
    assert "_auth_user_id" not in victim.session
    assert not User.objects.exists()


def test_a_provider_that_is_away_is_said_in_plain_words(settings: Any) -> None:
    app = {
        "provider_id": "oidc",
        "name": "Gone",
        "client_id": "x",
        "secret": "y",
        "settings": {"server_url": "http://127.0.0.1:1"},
    }
    settings.SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"APPS": [app]}}
    answer = Client().post("/accounts/oidc/oidc/login/")
    assert answer.status_code == 502
    assert "could not be asked" in answer.content.decode()
