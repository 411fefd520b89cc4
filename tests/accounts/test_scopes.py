"""Scopes: a key opens what it is for and nothing else, and every route has one."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import get_resolver
from django.utils import timezone

from accounts import keys, scopes
from accounts.models import ApiKey, AuditEvent, Membership, Scope
from tests.factories.accounts import TeamFactory

READS = {
    "/api/v1/models": Scope.MODELS,
    "/api/v1/deployments": Scope.DEPLOYMENTS,
    "/api/v1/weights": Scope.DEPLOYMENTS,
    "/api/v1/prompt-sets": Scope.DEPLOYMENTS,
    "/api/v1/usage": Scope.BILLING,
    "/api/v1/statements/2026-11": Scope.BILLING,
    "/api/v1/budgets": Scope.BILLING,
    "/api/v1/aliases": Scope.MANAGE,
    "/api/v1/audit": Scope.MANAGE,
    "/api/v1/members": Scope.MANAGE,
    "/api/v1/invitations": Scope.MANAGE,
    "/api/v1/keys": Scope.MANAGE,
}


def _get(text: str, path: str) -> Any:
    return Client(headers={"authorization": f"Bearer {text}"}).get(path)


@pytest.mark.parametrize("scope", Scope.values)
def test_a_key_opens_the_routes_of_its_scope_alone(owner: Membership, scope: str) -> None:
    _, text = keys.issue(owner.team, name="narrow", scopes=[scope])
    for path, needed in READS.items():
        answer = _get(text, path)
        assert answer.status_code == (200 if needed == scope else 403), path
        if needed != scope:
            said = answer.json()
            assert (answer["content-type"], said["code"]) == ("application/problem+json", "missing_scope")
            assert f"`{needed}`" in said["detail"]


def test_every_route_of_the_management_api_has_a_scope() -> None:
    found = set()
    for pattern in get_resolver().url_patterns:
        if str(pattern.pattern) == "api/v1/":
            found |= {str(inner.pattern).split("/")[0] for inner in pattern.url_patterns}  # type: ignore[attr-defined]
    assert found - set(scopes.OF_ROUTES) == set()
    assert len(found) >= 8


def test_a_key_of_before_has_every_scope(owner: Membership) -> None:
    row, text = keys.issue(owner.team, name="old")
    assert set(row.scopes) == set(Scope.values)
    assert {_get(text, path).status_code for path in READS} == {200}


def test_use_of_the_management_api_is_noted(owner: Membership) -> None:
    row, text = keys.issue(owner.team, name="ci")
    _get(text, "/api/v1/models")
    row.refresh_from_db()
    assert row.last_used_at


def test_scopes_are_changed_and_the_trail_says_how(browser: Client, owner: Membership) -> None:
    row, text = keys.issue(owner.team, name="ci")
    answer = browser.post(f"/keys/{row.pk}/", {"name": "ci", "scopes": "models", "tag": "project-x"})
    assert answer.status_code == 302
    assert _get(text, "/api/v1/deployments").status_code == 403
    event = AuditEvent.objects.get(team=owner.team)
    assert event.before == {"scopes": sorted(Scope.values), "tag": ""}
    assert event.after == {"scopes": ["models"], "tag": "project-x"}


def test_after_a_rotation_both_secrets_open_until_the_overlap_ends(browser: Client, owner: Membership) -> None:
    row, old = keys.issue(owner.team, name="ci", scopes=["models"], tag="t")
    page = browser.post(f"/keys/{row.pk}/rotate/", {"overlap": "24", "lasts": "keep"})
    new = next(text for text in keys.SHAPE.findall(page.content.decode()) if text != old)
    assert "no-store" in page["Cache-Control"]
    found = [keys.look_up(text) for text in (old, new)]
    assert [each.pk for each in found if each] == [row.pk, row.pk]
    keys.touch(found[0])  # type: ignore[arg-type]
    assert "it has not moved to the new one yet" in browser.get(f"/keys/{row.pk}/").content.decode()
    ApiKey.objects.update(old_until=timezone.now())
    assert (keys.look_up(old), keys.look_up(new)) == (None, found[1])
    assert new not in str(list(AuditEvent.objects.values()))


def test_a_rotation_without_overlap_and_a_revocation_end_the_old_secret_now(browser: Client, owner: Membership) -> None:
    row, first = keys.issue(owner.team, name="ci")
    browser.post(f"/keys/{row.pk}/rotate/", {"overlap": "0", "lasts": "keep"})
    assert keys.look_up(first) is None
    second = keys.rotate(row, overlap=timedelta(days=1))
    third = keys.rotate(row, overlap=timedelta(days=1))
    browser.post(f"/keys/{row.pk}/revoke/")
    assert (keys.look_up(second), keys.look_up(third)) == (None, None)
    assert browser.post(f"/keys/{row.pk}/rotate/", {"overlap": "0", "lasts": "keep"}).status_code == 409


def test_a_rotation_can_give_the_key_more_time(browser: Client, owner: Membership) -> None:
    row, _ = keys.issue(owner.team, name="ci", expires_at=timezone.now() + timedelta(days=1))
    browser.post(f"/keys/{row.pk}/rotate/", {"overlap": "1", "lasts": "", "last_day": "2099-01-01"})
    row.refresh_from_db()
    assert row.expires_at == datetime(2099, 1, 1, 23, 59, 59, 999_999, tzinfo=UTC)
    browser.post(f"/keys/{row.pk}/rotate/", {"overlap": "1", "lasts": ""})
    row.refresh_from_db()
    assert row.expires_at is None


def test_another_team_s_key_is_neither_shown_nor_rotated(browser: Client, owner: Membership) -> None:
    row, text = keys.issue(TeamFactory(), name="theirs")
    assert browser.get(f"/keys/{row.pk}/").status_code == 404
    assert browser.post(f"/keys/{row.pk}/", {"name": "x", "scopes": "models"}).status_code == 404
    assert browser.post(f"/keys/{row.pk}/rotate/", {"overlap": "0"}).status_code == 404
    assert keys.look_up(text)
