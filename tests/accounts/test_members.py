"""Members: who may change whom, and a team that always keeps an owner."""

import pytest
from django.test import Client
from django.utils import timezone

from accounts import keys
from accounts.models import AuditEvent, Membership, Role
from tests.factories.accounts import MembershipFactory


def _other(owner: Membership, role: Role = Role.DEVELOPER) -> Membership:
    return MembershipFactory(team=owner.team, role=role)


def test_a_role_is_changed_and_the_trail_says_from_what_to_what(browser: Client, owner: Membership) -> None:
    other = _other(owner)
    assert browser.post(f"/team/members/{other.pk}/role/", {"role": "billing"}).status_code == 302
    other.refresh_from_db()
    assert other.role == Role.BILLING
    event = AuditEvent.objects.get(team=owner.team)
    assert (event.verb, event.subject, event.ip) == ("changed the role of", other.user.email, "127.0.0.1")
    assert (event.before, event.after) == ({"role": "developer"}, {"role": "billing"})


def test_who_takes_calling_away_is_told_of_keys_that_still_call(browser: Client, owner: Membership) -> None:
    other = _other(owner)
    keys.issue(owner.team, name="theirs", created_by=other.user)
    keys.issue(owner.team, name="over", created_by=other.user, expires_at=timezone.now())
    page = browser.post(f"/team/members/{other.pk}/role/", {"role": "admin"}, follow=True).content.decode()
    assert "is admin now." in page
    assert "still work" not in page
    page = browser.post(f"/team/members/{other.pk}/role/", {"role": "viewer"}, follow=True).content.decode()
    assert "is viewer now. 1 key that they made still works: revoke what must not on the Keys page." in page


def test_the_last_owner_neither_goes_nor_becomes_less(browser: Client, owner: Membership) -> None:
    assert browser.post("/team/leave/").status_code == 409
    assert browser.post(f"/team/members/{owner.pk}/role/", {"role": "viewer"}).status_code == 409
    assert browser.post(f"/team/members/{owner.pk}/remove/").status_code == 409
    owner.refresh_from_db()
    assert owner.role == Role.OWNER
    _other(owner, Role.OWNER)
    assert browser.post("/team/leave/").status_code == 302
    assert not Membership.objects.filter(pk=owner.pk).exists()


@pytest.mark.parametrize("role", [Role.DEVELOPER, Role.BILLING, Role.VIEWER])
def test_who_only_looks_changes_nobody(client: Client, db: None, role: Role) -> None:
    me = MembershipFactory(role=role)
    victim = _other(me, Role.VIEWER)
    client.force_login(me.user)
    page = client.get("/team/").content.decode()
    assert f"Your role, {role.value}, may look at members" in page
    assert "Send the invitation" not in page
    assert client.post(f"/team/members/{victim.pk}/role/", {"role": "admin"}).status_code == 403
    assert client.post(f"/team/members/{me.pk}/role/", {"role": "owner"}).status_code == 403
    assert client.post(f"/team/members/{victim.pk}/remove/").status_code == 403
    assert client.post("/team/invitations/", {"email": "x@example.com", "role": "viewer"}).status_code == 403
    assert client.post("/team/leave/").status_code == 302


def test_an_admin_makes_no_owner_and_unmakes_none(client: Client, owner: Membership) -> None:
    admin = _other(owner, Role.ADMIN)
    client.force_login(admin.user)
    assert client.post(f"/team/members/{owner.pk}/role/", {"role": "viewer"}).status_code == 403
    assert client.post(f"/team/members/{owner.pk}/remove/").status_code == 403
    assert client.post(f"/team/members/{admin.pk}/role/", {"role": "owner"}).status_code == 403
    assert client.post("/team/invitations/", {"email": "x@example.com", "role": "owner"}).status_code == 400
    assert owner.team.memberships.filter(role=Role.OWNER).get() == owner


def test_a_lesser_role_takes_back_the_invitations_that_it_could_not_make(browser: Client, owner: Membership) -> None:
    first, second = _other(owner, Role.OWNER), _other(owner, Role.OWNER)
    for member in (first, second):
        theirs = Client()
        theirs.force_login(member.user)
        for role in ("owner", "admin", "viewer"):
            form = {"email": f"{role}-{member.pk}@example.com", "role": role}
            assert theirs.post("/team/invitations/", form).status_code == 200
    browser.post(f"/team/members/{first.pk}/role/", {"role": "admin"})
    browser.post(f"/team/members/{second.pk}/role/", {"role": "viewer"})
    still = owner.team.invitations.open().values_list("invited_by", "role")
    assert set(still) == {(first.user_id, "admin"), (first.user_id, "viewer")}


def test_a_member_goes_with_their_keys_if_so_wished(browser: Client, owner: Membership) -> None:
    first, second = _other(owner), _other(owner)
    _, gone = keys.issue(owner.team, name="theirs", created_by=first.user)
    _, stays = keys.issue(owner.team, name="kept", created_by=second.user)
    assert "1 live key" in browser.get(f"/team/members/{first.pk}/remove/").content.decode()
    browser.post(f"/team/members/{first.pk}/remove/", {"revoke_keys": "on"})
    browser.post(f"/team/members/{second.pk}/remove/")
    assert (keys.look_up(gone) is None, keys.look_up(stays) is None) == (True, False)
    assert owner.team.memberships.count() == 1


def test_another_team_s_member_does_not_exist_here(browser: Client) -> None:
    theirs = MembershipFactory(role=Role.VIEWER)
    assert browser.post(f"/team/members/{theirs.pk}/role/", {"role": "admin"}).status_code == 404
    assert browser.post(f"/team/members/{theirs.pk}/remove/").status_code == 404


@pytest.mark.parametrize("role", ["", "king", "a\x00b"])
def test_only_a_role_is_a_role(browser: Client, owner: Membership, role: str) -> None:
    assert browser.post(f"/team/members/{_other(owner).pk}/role/", {"role": role}).status_code == 400
