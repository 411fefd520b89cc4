"""Members, invitations and keys over /api/v1: as on the pages, by role; a key acts for its maker and widens nothing."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.core import mail
from django.test import Client
from django.utils import timezone

from accounts import keys
from accounts.models import ApiKey, AuditEvent, Invitation, Membership, Quota, Role, Scope
from tests.factories.accounts import MembershipFactory, TeamFactory

Send = Callable[..., Any]


@pytest.fixture
def sender(owner: Membership) -> tuple[ApiKey, str]:
    """A key with all scopes that the owner made."""
    return keys.issue(owner.team, name="ops", created_by=owner.user)


@pytest.fixture
def send(sender: tuple[ApiKey, str]) -> Send:
    return using(sender[1])


def using(text: str) -> Send:
    client = Client(headers={"authorization": f"Bearer {text}"})

    def send(method: str, path: str, body: Any = None) -> Any:
        content = json.dumps(body) if body is not None else ""
        return client.generic(method, f"/api/v1/{path}", content, content_type="application/json")

    return send


def key_of(member: Membership, **fields: Any) -> Send:
    return using(keys.issue(member.team, name="k", created_by=member.user, **fields)[1])


def told(answer: Any) -> tuple[int, str]:
    assert answer["content-type"] == "application/problem+json"
    return answer.status_code, answer.json().get("code", "")


# --- members


def test_members_are_listed_changed_and_removed_and_the_trail_names_the_key(send: Send, owner: Membership) -> None:
    other = MembershipFactory(team=owner.team, role=Role.DEVELOPER)
    _, theirs = keys.issue(owner.team, name="theirs", created_by=other.user)
    rows = send("GET", "members").json()["results"]
    assert [(row["email"], row["role"]) for row in rows] == [
        (owner.user.email, "owner"), (other.user.email, "developer"),
    ]  # fmt: skip
    changed = send("PATCH", f"members/{other.pk}", {"role": "billing"})
    assert (changed.status_code, changed.json()["role"]) == (200, "billing")
    event = AuditEvent.objects.get(verb="changed the role of")
    assert event.actor.startswith("mp_")
    assert (event.before, event.after) == ({"role": "developer"}, {"role": "billing"})
    gone = send("DELETE", f"members/{other.pk}?revoke_keys=true")
    assert (gone.status_code, gone.json()) == (200, {"keys_revoked": 1})
    assert keys.look_up(theirs) is None
    assert send("GET", f"members/{other.pk}").status_code == 404


def test_a_key_neither_makes_nor_unmakes_an_owner(send: Send, owner: Membership) -> None:
    second = MembershipFactory(team=owner.team, role=Role.OWNER)
    other = MembershipFactory(team=owner.team, role=Role.VIEWER)
    assert told(send("PATCH", f"members/{other.pk}", {"role": "owner"})) == (403, "not_allowed")
    assert told(send("PATCH", f"members/{second.pk}", {"role": "viewer"})) == (403, "not_allowed")
    assert told(send("DELETE", f"members/{second.pk}")) == (403, "not_allowed")
    assert told(send("POST", "invitations", {"email": "x@example.com", "role": "owner"})) == (403, "not_allowed")
    assert not mail.outbox


def test_in_the_browser_an_owner_may_but_the_last_one_stays(browser: Client, owner: Membership) -> None:
    def patch(pk: int, role: str) -> Any:
        return browser.patch(f"/api/v1/members/{pk}", {"role": role}, content_type="application/json")

    assert told(patch(owner.pk, "viewer")) == (409, "conflict")
    other = MembershipFactory(team=owner.team, role=Role.VIEWER)
    assert patch(other.pk, "king").status_code == 400
    assert patch(other.pk, "owner").status_code == 200
    assert browser.delete(f"/api/v1/members/{owner.pk}").status_code == 200


@pytest.mark.parametrize("role", Role.values)
def test_a_key_may_what_its_maker_may_now(owner: Membership, role: str) -> None:
    member = MembershipFactory(team=owner.team, role=Role.ADMIN)
    send = key_of(member)
    Membership.objects.filter(pk=member.pk).update(role=role)
    other = MembershipFactory(team=owner.team, role=Role.VIEWER)
    manages, makes = role in {"owner", "admin"}, role in {"owner", "admin", "developer"}
    assert send("GET", "members").status_code == 200
    assert (send("PATCH", f"members/{other.pk}", {"role": "billing"}).status_code == 200) is manages
    assert (send("GET", "invitations").status_code == 200) is manages
    body = {"email": "new@example.com", "role": "viewer"}
    assert (send("POST", "invitations", body).status_code == 201) is manages
    assert send("GET", "keys").status_code == 200
    assert (send("POST", "keys", {"name": "x", "scopes": ["models"]}).status_code == 201) is makes


def test_a_key_whose_maker_has_left_manages_nothing(owner: Membership) -> None:
    member = MembershipFactory(team=owner.team, role=Role.ADMIN)
    send = key_of(member)
    member.delete()
    for method, path in (("GET", "members"), ("POST", "invitations"), ("POST", "keys"), ("GET", "keys")):
        assert told(send(method, path, {})) == (403, "maker_left")


def test_the_command_lines_key_reads_members_and_makes_keys_but_invites_in_nobodys_name(owner: Membership) -> None:
    row, text = keys.issue(owner.team, name="cli")
    send = using(text)
    assert send("GET", "members").status_code == 200
    assert send("GET", "invitations").status_code == 200
    assert told(send("POST", "invitations", {"email": "x@example.com", "role": "viewer"}))[0] == 403
    assert told(send("PATCH", f"members/{owner.pk}", {"role": "viewer"}))[0] == 403
    made = send("POST", "keys", {"name": "x", "scopes": ["models"]})
    assert (made.status_code, made.json()["created_by"]) == (201, None)
    assert send("POST", f"keys/{row.pk}/rotate", {}).status_code == 200


@pytest.mark.parametrize("path", ["members", "invitations", "keys"])
def test_without_the_scope_manage_none_of_it_opens(owner: Membership, path: str) -> None:
    send = key_of(owner, scopes=["models", "deployments", "billing"])
    assert told(send("GET", path)) == (403, "missing_scope")
    assert told(send("POST" if path != "members" else "GET", path, {})) == (403, "missing_scope")


# --- invitations


def test_an_invitation_is_made_with_its_link_once_and_taken_back(send: Send, owner: Membership) -> None:
    made = send("POST", "invitations", {"email": "New@Example.com", "role": "accountant"})
    body = made.json()
    assert (made.status_code, body["email"], body["role"]) == (201, "new@example.com", "accountant")
    assert "/join/" in body["link"]
    assert body["sent_at"]
    assert body["link"] in str(mail.outbox[0].body)
    (listed,) = send("GET", "invitations").json()["results"]
    assert "link" not in listed
    assert (listed["id"], listed["invited_by"]) == (body["id"], owner.user.email)
    assert told(send("POST", "invitations", {"email": "new@example.com", "role": "viewer"})) == (409, "conflict")
    assert told(send("POST", f"invitations/{body['id']}/resend")) == (409, "conflict")  # within a minute
    Invitation.objects.update(sent_at=timezone.now() - timedelta(minutes=2))
    again = send("POST", f"invitations/{body['id']}/resend").json()
    assert again["link"] != body["link"]
    assert Client().get(urlsplit(body["link"]).path).status_code == 410
    assert send("DELETE", f"invitations/{body['id']}").status_code == 204
    assert send("GET", f"invitations/{body['id']}").status_code == 404
    assert send("DELETE", f"invitations/{body['id']}").status_code == 404


@pytest.mark.parametrize("body", [{}, {"email": "x"}, {"email": "x@example.com", "role": "king"}, []])
def test_an_invitation_that_is_not_right_is_none(send: Send, body: Any) -> None:
    assert send("POST", "invitations", body).status_code == 400
    assert not Invitation.objects.exists()


# --- keys


def test_a_key_is_made_shown_once_changed_rotated_and_revoked(send: Send, owner: Membership) -> None:
    ends = timezone.now() + timedelta(days=30)
    made = send(
        "POST", "keys", {"name": "ci", "scopes": ["models", "models"], "tag": "t", "expires_at": ends.isoformat()}
    )
    body = made.json()
    text = body["key"]
    found = keys.look_up(text)
    assert found
    assert (made.status_code, found.created_by, found.scopes, found.expires_at) == (201, owner.user, ["models"], ends)
    for path in ("keys", f"keys/{body['id']}"):
        assert text not in send("GET", path).content.decode()
    changed = send("PATCH", f"keys/{body['id']}", {"scopes": ["billing", "models"], "name": "ci-2"}).json()
    assert (changed["name"], changed["scopes"], changed["tag"]) == ("ci-2", ["billing", "models"], "t")
    rotated = send("POST", f"keys/{body['id']}/rotate", {"overlap_s": 0}).json()
    assert keys.look_up(text) is None
    assert keys.look_up(rotated["key"])
    assert (rotated["prefix"], rotated["old_secret_until"]) == (body["prefix"], None)
    assert send("DELETE", f"keys/{body['id']}").status_code == 204
    assert send("DELETE", f"keys/{body['id']}").status_code == 204
    assert keys.look_up(rotated["key"]) is None
    assert told(send("POST", f"keys/{body['id']}/rotate", {})) == (409, "conflict")
    assert told(send("PATCH", f"keys/{body['id']}", {"name": "x"})) == (409, "conflict")
    events = {event.verb: event for event in AuditEvent.objects.all()}
    assert set(events) == {"issued the key", "changed the key", "rotated the key", "revoked the key"}
    assert events["changed the key"].before == {"name": "ci", "scopes": ["models"]}
    assert events["changed the key"].after == {"name": "ci-2", "scopes": ["billing", "models"]}
    assert events["revoked the key"].before["name"] == "ci-2"
    secret = text.rsplit("_", 1)[1]
    assert all(secret not in f"{event.subject}{event.before}{event.after}" for event in events.values())


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""}, {"name": "a\x00b"}, {"scopes": []}, {"scopes": ["everything"]}, {"scopes": "models"},
        {"tag": "a\x07b"}, {"tag": "x" * 65}, {"expires_at": "2020-01-01T00:00:00Z"},
        {"expires_at": "9999-12-31T00:00:00Z"}, {"expires_at": "soon"},
    ],
)  # fmt: skip
def test_a_key_that_is_not_right_is_not_made(send: Send, fields: dict[str, Any]) -> None:
    assert send("POST", "keys", {"name": "x", "scopes": ["models"]} | fields).status_code == 400
    assert ApiKey.objects.count() == 1


def test_a_key_gives_nothing_that_it_lacks_and_touches_none_that_holds_more(owner: Membership) -> None:
    wide, _ = keys.issue(owner.team, name="wide", created_by=owner.user)
    narrow, text = keys.issue(owner.team, name="narrow", created_by=owner.user, scopes=["manage"])
    send = using(text)
    assert told(send("POST", "keys", {"name": "x", "scopes": ["models"]})) == (403, "wider_than_this_key")
    assert told(send("PATCH", f"keys/{narrow.pk}", {"scopes": ["manage", "models"]})) == (403, "wider_than_this_key")
    assert told(send("POST", f"keys/{wide.pk}/rotate", {})) == (403, "wider_than_this_key")
    assert send("POST", "keys", {"name": "x", "scopes": ["manage"]}).status_code == 201
    assert send("POST", f"keys/{narrow.pk}/rotate", {}).status_code == 200


def test_a_key_makes_none_that_outlives_it_and_can_not_live_longer_itself(owner: Membership) -> None:
    ends = timezone.now() + timedelta(days=2)
    row, text = keys.issue(owner.team, name="short", created_by=owner.user, expires_at=ends)
    send, body = using(text), {"name": "x", "scopes": ["models"]}
    later = (ends + timedelta(days=1)).isoformat()
    assert told(send("POST", "keys", body)) == (403, "wider_than_this_key")
    assert told(send("POST", "keys", body | {"expires_at": later})) == (403, "wider_than_this_key")
    assert told(send("POST", f"keys/{row.pk}/rotate", {"expires_at": None})) == (403, "wider_than_this_key")
    assert send("POST", "keys", body | {"expires_at": ends.isoformat()}).status_code == 201
    assert send("POST", f"keys/{row.pk}/rotate", {}).status_code == 200


def test_nobody_gets_hold_of_a_key_that_acts_for_somebody_above(owner: Membership, client: Client) -> None:
    theirs, _ = keys.issue(owner.team, name="the-owners", created_by=owner.user)
    plain, _ = keys.issue(owner.team, name="plain", created_by=owner.user, scopes=["models"])
    developer = MembershipFactory(team=owner.team, role=Role.DEVELOPER)
    client.force_login(developer.user)
    assert client.post(f"/keys/{theirs.pk}/rotate/", {"overlap": "0"}).status_code == 403
    form = {"name": "plain", "scopes": ["models", "manage"], "tag": ""}
    assert client.post(f"/keys/{plain.pk}/", form).status_code == 403
    assert client.post(f"/keys/{plain.pk}/", form | {"scopes": ["models", "billing"]}).status_code == 302
    assert client.post(f"/keys/{plain.pk}/rotate/", {"overlap": "0"}).status_code == 200
    send = key_of(developer)
    assert told(send("POST", f"keys/{theirs.pk}/rotate", {})) == (403, "not_allowed")
    assert told(send("PATCH", f"keys/{plain.pk}", {"scopes": ["manage"]})) == (403, "not_allowed")
    mine = keys.issue(owner.team, name="mine", created_by=developer.user)[0]
    assert send("POST", f"keys/{mine.pk}/rotate", {}).status_code == 200
    client.force_login(owner.user)
    assert client.post(f"/keys/{mine.pk}/rotate/", {"overlap": "0"}).status_code == 200


def test_a_full_quota_of_keys_says_who_raises_it(send: Send, owner: Membership) -> None:
    Quota.objects.create(team=owner.team, what="keys", most=1)
    answer = send("POST", "keys", {"name": "x", "scopes": ["models"]})
    assert told(answer) == (409, "quota_reached")
    assert "The portal's administrators can raise it." in answer.json()["detail"]


def test_another_teams_things_do_not_exist_here(send: Send) -> None:
    theirs = MembershipFactory(team=TeamFactory(), role=Role.VIEWER)
    key, _ = keys.issue(theirs.team, name="theirs")
    for method, path in (
        ("GET", f"members/{theirs.pk}"), ("PATCH", f"members/{theirs.pk}"), ("DELETE", f"members/{theirs.pk}"),
        ("GET", f"keys/{key.pk}"), ("DELETE", f"keys/{key.pk}"), ("POST", f"keys/{key.pk}/rotate"),
    ):  # fmt: skip
        assert send(method, path, {}).status_code == 404
    assert key.prefix not in send("GET", "keys").content.decode()


def test_every_scope_of_the_rows_is_told(send: Send) -> None:
    (row,) = send("GET", "keys").json()["results"]
    assert (set(row["scopes"]), row["state"]) == (set(Scope.values), "live")
