"""What stands around the doors: guesses are counted, nobody is led away, production settings have no gap."""

import secrets
import subprocess
import sys
from typing import Any
from urllib.parse import urlencode

import pytest
import redis
from django.conf import settings
from django.core.cache import cache
from django.test import Client

from accounts.models import User
from portal.embedded import ROOT
from tests.factories.accounts import MembershipFactory

PASSWORD = "a-long-quiet-river"
ELSEWHERE = ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "https:evil.example"]


@pytest.fixture
def ada(db: None) -> User:
    user = User.objects.create_user("ada@example.com", PASSWORD)
    MembershipFactory(user=user)
    return user


def _tried(password: str, *, email: str = "ada@example.com", address: str = "203.0.113.1") -> Any:
    return Client(REMOTE_ADDR=address).post("/accounts/login/", {"login": email, "password": password})


def test_a_password_can_t_be_guessed_from_many_addresses(ada: User) -> None:
    for number in range(5):
        assert _tried("wrong", address=f"203.0.113.{number}").status_code == 200
    locked = _tried(PASSWORD, address="203.0.113.99")
    assert "Too many failed login attempts" in locked.content.decode()
    assert "_auth_user_id" not in locked.client.session


def test_one_address_can_t_try_many_accounts(ada: User) -> None:
    for number in range(10):
        _tried("wrong", email=f"user{number}@example.com")
    assert "Too many failed login attempts" in _tried(PASSWORD).content.decode()
    assert _tried(PASSWORD, address="203.0.113.2").status_code == 302


def test_the_count_is_kept_where_all_processes_see_it(ada: User) -> None:
    assert settings.CACHES["default"]["BACKEND"] == "django.core.cache.backends.redis.RedisCache"
    _tried("wrong")
    client = redis.Redis.from_url(settings.REDIS_URL)
    assert any(b"login_failed" in name for name in client.scan_iter(f"{cache.key_prefix}:*"))


def test_too_many_tries_get_a_page_that_says_so(ada: User) -> None:
    answers = [_tried(PASSWORD, email="x@example.com", address="203.0.113.7") for _ in range(31)]
    assert answers[-1].status_code == 429
    assert "Too many tries" in answers[-1].content.decode()


@pytest.mark.parametrize("after", ELSEWHERE)
def test_no_door_leads_elsewhere(ada: User, after: str) -> None:
    query = urlencode({"next": after})
    signed_in = Client().post(f"/accounts/login/?{query}", {"login": ada.email, "password": PASSWORD, "next": after})
    assert signed_in["Location"] == "/"
    browser = signed_in.client
    known = browser.get(f"/accounts/login/?{query}")
    assert known["Location"] == "/"
    again = browser.post(f"/accounts/reauthenticate/?{query}", {"password": PASSWORD, "next": after})
    assert again["Location"].startswith("/accounts/") or again["Location"] == "/"
    switched = browser.post("/team/switch/", {"team": ada.teams.get().slug, "next": after})
    assert switched["Location"] == "/"
    gone = browser.post(f"/accounts/logout/?{query}", {"next": after})
    assert gone["Location"] == "/accounts/login/"
    fields = {"email": "new@example.com", "password1": PASSWORD, "password2": PASSWORD, "next": after}
    assert Client().post(f"/accounts/signup/?{query}", fields)["Location"] == "/"


def test_production_settings_pass_django_s_own_check() -> None:
    env = {
        "SECRET_KEY": secrets.token_urlsafe(60),
        "DATABASE_URL": "postgresql://localhost:1/none",
        "PUBLIC_URL": "https://models.example.org",
        "ALLOWED_HOSTS": "models.example.org",
    }
    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
    done = subprocess.run(command, cwd=ROOT, env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout
