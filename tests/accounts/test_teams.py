"""Teams: made, named, switched; never another's."""

import pytest
from django.test import Client

from accounts import teams
from accounts.models import AuditEvent, Membership, Role, Team
from tests.factories.accounts import MembershipFactory, TeamFactory, UserFactory


def test_a_team_gets_a_free_address(db: None) -> None:
    first = teams.create(UserFactory(), name="Ada's Lab!")
    second = teams.create(UserFactory(), name="Ada's Lab!")
    assert first.slug == "ada-s-lab"
    assert second.slug.startswith("ada-s-lab-")
    assert Membership.objects.get(team=second).role == Role.OWNER


@pytest.mark.parametrize("name", ["测试", "-", "ä" * 80])
def test_any_name_has_an_address(db: None, name: str) -> None:
    assert teams.create(UserFactory(), name=name).slug


def test_a_new_team_is_the_one_that_is_worked_for(browser: Client, owner: Membership) -> None:
    assert browser.post("/team/new/", {"name": "Second", "time_zone": "Europe/Berlin"}).status_code == 302
    made = Team.objects.get(name="Second")
    assert made.time_zone == "Europe/Berlin"
    assert browser.session["team_id"] == str(made.pk)
    assert "Second" in browser.get("/team/").content.decode()
    assert AuditEvent.objects.get(team=made).actor == owner.user.email


@pytest.mark.parametrize("zone", ["Berlin", "../etc/passwd", "", "Mars/Base"])
def test_a_time_zone_is_one_of_iana_s(browser: Client, zone: str) -> None:
    assert browser.post("/team/new/", {"name": "Second", "time_zone": zone}).status_code == 400
    assert browser.post("/team/edit/", {"name": "Second", "time_zone": zone}).status_code == 400
    assert not Team.objects.filter(name="Second").exists()


def test_the_team_s_settings_are_changed_by_who_may(browser: Client, owner: Membership) -> None:
    assert browser.post("/team/edit/", {"name": "New name", "time_zone": "UTC"}).status_code == 302
    owner.team.refresh_from_db()
    assert owner.team.name == "New name"
    assert "changed the team" in browser.get("/team/").content.decode()


@pytest.mark.parametrize("role", [Role.DEVELOPER, Role.BILLING, Role.VIEWER])
def test_others_may_look_at_the_settings(client: Client, db: None, role: Role) -> None:
    membership = MembershipFactory(role=role)
    client.force_login(membership.user)
    page = client.get("/team/").content.decode()
    assert "may look" in page
    assert client.post("/team/edit/", {"name": "Mine", "time_zone": "UTC"}).status_code == 403
    membership.team.refresh_from_db()
    assert membership.team.name != "Mine"


def test_the_switcher_changes_the_team(browser: Client, owner: Membership) -> None:
    other = MembershipFactory(user=owner.user).team
    assert owner.team.name in browser.get("/team/").content.decode()
    answer = browser.post("/team/switch/", {"team": other.slug, "next": "/keys/"})
    assert answer["Location"] == "/keys/"
    assert f"<h1>{other.name}</h1>" in browser.get("/team/").content.decode()


@pytest.mark.parametrize("after", ["https://evil.example/", "//evil.example", "javascript:alert(1)", ""])
def test_the_switcher_leads_nowhere_else(browser: Client, owner: Membership, after: str) -> None:
    assert browser.post("/team/switch/", {"team": owner.team.slug, "next": after})["Location"] == "/"


@pytest.mark.parametrize("slug", ["", "nobody", "a\x00b", "x" * 10_000])
def test_the_switcher_knows_no_other_slug(browser: Client, slug: str) -> None:
    assert browser.post("/team/switch/", {"team": slug}).status_code == 404


def test_another_team_can_t_be_switched_to(browser: Client, owner: Membership) -> None:
    other = TeamFactory()
    assert browser.post("/team/switch/", {"team": other.slug}).status_code == 404
    session = browser.session
    session["team_id"] = str(other.pk)
    session.save()
    assert f"<h1>{owner.team.name}</h1>" in browser.get("/team/").content.decode()


def test_the_switcher_takes_a_post_only(browser: Client, owner: Membership) -> None:
    assert browser.get("/team/switch/").status_code == 405


def test_who_has_no_team_is_shown_how_to_make_one(client: Client, db: None) -> None:
    client.force_login(UserFactory())
    assert client.get("/keys/")["Location"] == "/team/new/"
    assert client.get("/team/new/").status_code == 200
