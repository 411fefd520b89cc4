"""The keys page: made, shown once, revoked; by those who may, for their own team."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts import keys
from accounts.models import AuditEvent, Membership, Role
from tests.factories.accounts import MembershipFactory, TeamFactory


def test_a_new_key_is_shown_in_its_own_answer_and_never_again(browser: Client, owner: Membership) -> None:
    answer = browser.post("/keys/", {"name": "laptop", "scopes": "models"})
    (text,) = set(keys.SHAPE.findall(unescape(answer.content.decode())))
    assert "no-store" in answer["Cache-Control"]
    found = keys.look_up(text)
    assert found
    assert (found.team, found.name, found.created_by) == (owner.team, "laptop", owner.user)
    assert text not in str(dict(browser.session))
    again = browser.get("/keys/").content.decode()
    assert text not in again
    assert found.prefix in again


def test_a_key_with_a_last_day_works_until_its_end_in_the_team_s_zone(browser: Client, owner: Membership) -> None:
    owner.team.time_zone = "Asia/Tokyo"
    owner.team.save()
    browser.post("/keys/", {"name": "ci", "scopes": "models", "last_day": "2099-03-04"})
    assert owner.team.api_keys.get().expires_at == datetime(2099, 3, 4, 14, 59, 59, 999_999, tzinfo=UTC)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"last_day": "2020-01-01"},
        {"last_day": "9999-12-31"},
        {"name": "a\x00b"},
        {"scopes": []},
        {"scopes": "everything"},
        {"lasts": "1000"},
        {"tag": "a\x07b"},
        {"tag": "x" * 65},
    ],
)
def test_a_key_that_is_not_right_is_not_made(browser: Client, owner: Membership, fields: dict[str, Any]) -> None:
    assert browser.post("/keys/", {"name": "x", "scopes": "models"} | fields).status_code == 400
    assert not owner.team.api_keys.exists()


def test_a_revoked_key_is_shown_as_such_and_audited(browser: Client, owner: Membership) -> None:
    row, text = keys.issue(owner.team, name="laptop")
    assert browser.post(f"/keys/{row.pk}/revoke/").status_code == 302
    assert keys.look_up(text) is None
    assert "revoked" in browser.get("/keys/").content.decode()
    event = AuditEvent.objects.get(team=owner.team)
    assert (event.actor, event.verb) == (owner.user.email, "revoked the key")
    browser.post(f"/keys/{row.pk}/revoke/")
    assert AuditEvent.objects.filter(team=owner.team).count() == 1


def test_an_expired_key_says_so(browser: Client, owner: Membership) -> None:
    keys.issue(owner.team, name="old", expires_at=timezone.now() - timedelta(days=1))
    assert re.search(r"pill[^>]*>expired<", browser.get("/keys/").content.decode())


def test_another_team_s_key_does_not_exist_here(browser: Client) -> None:
    row, text = keys.issue(TeamFactory(), name="theirs")
    assert browser.post(f"/keys/{row.pk}/revoke/").status_code == 404
    assert keys.look_up(text)
    assert row.prefix not in browser.get("/keys/").content.decode()


@pytest.mark.parametrize("role", [Role.BILLING, Role.VIEWER])
def test_who_may_only_look_sees_the_list_and_why(client: Client, db: None, role: Role) -> None:
    membership = MembershipFactory(role=role)
    row, text = keys.issue(membership.team, name="laptop")
    client.force_login(membership.user)
    page = client.get("/keys/").content.decode()
    assert row.prefix in page
    assert f"Your role in this team, {role.value}, may look at keys" in page
    assert "Make key" not in page
    assert client.post("/keys/", {"name": "x", "scopes": "models"}).status_code == 403
    assert client.post(f"/keys/{row.pk}/revoke/").status_code == 403
    assert keys.look_up(text)


@pytest.mark.parametrize("role", [Role.OWNER, Role.ADMIN, Role.DEVELOPER])
def test_who_builds_may_make_keys(client: Client, db: None, role: Role) -> None:
    membership = MembershipFactory(role=role)
    client.force_login(membership.user)
    assert client.post("/keys/", {"name": "x", "scopes": "models"}).status_code == 200
    assert membership.team.api_keys.count() == 1


def test_a_stranger_is_asked_to_sign_in(client: Client, db: None) -> None:
    answer = client.get("/keys/")
    assert answer.status_code == 302
    assert answer["Location"].startswith("/accounts/login/")
