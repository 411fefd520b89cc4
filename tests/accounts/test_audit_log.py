"""The audit log: what changed and from where, filtered, paged, as a file and by API; for owners and admins alone."""

import csv
import io
from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client

from accounts import audit, keys
from accounts.models import AuditEvent, Membership, Role, User
from tests.factories.accounts import MembershipFactory, TeamFactory


def _csv(browser: Client, query: str = "") -> list[dict[str, str]]:
    answer = browser.get(f"/team/audit.csv{query}")
    assert answer["content-type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(answer.getvalue().decode())))


def _record(owner: Membership, verb: str, subject: str, at: datetime | None = None, **more: Any) -> None:
    audit.record(owner.team, actor=owner.user.email, verb=verb, subject=subject, **more)
    if at:
        AuditEvent.objects.filter(verb=verb, subject=subject).update(at=at)


def test_it_says_who_did_what_from_where_and_what_changed(browser: Client, owner: Membership) -> None:
    browser.post("/team/edit/", {"name": "Renamed", "time_zone": owner.team.time_zone})
    event = AuditEvent.objects.get(team=owner.team)
    assert (event.ip, event.before, event.after) == ("127.0.0.1", {"name": owner.team.name}, {"name": "Renamed"})
    page = browser.get("/team/audit/").content.decode()
    assert f"<del>{owner.team.name}</del>" in page
    assert "<ins>Renamed</ins>" in page


@pytest.mark.parametrize("role", [Role.DEVELOPER, Role.BILLING, Role.VIEWER])
def test_others_are_told_why_they_may_not_read_it(client: Client, db: None, role: Role) -> None:
    client.force_login(MembershipFactory(role=role).user)
    for path in ("/team/audit/", "/team/audit.csv"):
        answer = client.get(path)
        assert (answer.status_code, "Only an owner or admin" in answer.content.decode()) == (403, True)
    assert client.get("/api/v1/audit").status_code == 403
    assert "may not read the audit log" in client.get("/team/").content.decode()


def test_it_is_filtered_by_each_of_its_columns(browser: Client, owner: Membership) -> None:
    _record(owner, "did", "apples", datetime(2026, 3, 1, 12, tzinfo=UTC))
    _record(owner, "did", "pears", datetime(2026, 3, 2, 12, tzinfo=UTC))
    _record(owner, "ate", "apples", datetime(2026, 3, 3, 12, tzinfo=UTC))
    audit.record(owner.team, actor="mp_abcdefgh", verb="did", subject="plums")
    found = {
        query: [row["subject"] for row in _csv(browser, query)]
        for query in ("?subject=APPLE", "?verb=ate", "?actor=mp_abc", "?since=2026-03-02&until=2026-03-02")
    }
    assert list(found.values()) == [["apples", "apples"], ["apples"], ["plums"], ["pears"]]
    for day in ("nonsense", "0001-01-01", "9999-12-31"):
        assert browser.get(f"/team/audit/?since={day}").status_code == 400
        assert browser.get(f"/team/audit.csv?until={day}").status_code == 400
        assert browser.get(f"/api/v1/audit?until={day}").status_code == 400
    assert browser.get("/team/audit/?actor=a%00b").status_code == 400
    assert "Nothing that fits" in browser.get("/team/audit/?subject=nothing-of-this").content.decode()


def test_a_day_begins_in_the_team_s_zone(browser: Client, owner: Membership) -> None:
    owner.team.time_zone = "Asia/Tokyo"
    owner.team.save()
    _record(owner, "did", "early", datetime(2026, 3, 1, 15, tzinfo=UTC))  # midnight in Tokyo
    assert [row["subject"] for row in _csv(browser, "?since=2026-03-02")] == ["early"]
    assert _csv(browser, "?until=2026-03-01") == []


def test_its_file_holds_no_formula(browser: Client, owner: Membership) -> None:
    _record(owner, "did", '=HYPERLINK("http://evil.example")', before={"name": "x"}, after={"name": "@y"})
    (row,) = _csv(browser)
    assert row["subject"].startswith("'=")
    assert (row["before"], row["after"]) == ("name: x", "name: @y")


def test_it_goes_page_by_page(browser: Client, owner: Membership) -> None:
    for number in range(51):
        _record(owner, "did", f"thing-{number:02}")
    first, second = (browser.get(f"/team/audit/?verb=did&page={number}").content.decode() for number in (1, 2))
    assert ("thing-50" in first, "thing-00" in first, "thing-00" in second) == (True, False, True)
    assert "verb=did&amp;page=2" in first


def test_another_team_s_is_not_seen(browser: Client, owner: Membership) -> None:
    audit.record(TeamFactory(), actor="eve@example.com", verb="did", subject="their-secret-plan")
    assert "their-secret-plan" not in browser.get("/team/audit/").content.decode()
    assert _csv(browser) == []
    assert browser.get("/api/v1/audit").json()["results"] == []


def test_a_key_reads_it_if_a_manager_made_it(owner: Membership) -> None:
    developer = MembershipFactory(team=owner.team, role=Role.DEVELOPER)
    _record(owner, "did", "apples", before={"n": 1}, after={"n": 2})
    for maker, status in ((owner.user, 200), (None, 200), (developer.user, 403)):
        _, text = keys.issue(owner.team, name="auditor", created_by=maker, scopes=["manage"])
        answer = Client(headers={"authorization": f"Bearer {text}"}).get("/api/v1/audit?verb=did")
        assert answer.status_code == status
        if status == 200:
            (row,) = answer.json()["results"]
            assert (row["subject"], row["before"], row["after"], row["ip"]) == ("apples", {"n": 1}, {"n": 2}, None)


def test_what_administrators_do_stands_in_it(client: Client, owner: Membership) -> None:
    client.force_login(User.objects.create_superuser("root@example.com", "a-long-quiet-river"))
    page = client.post(
        f"/admin/accounts/membership/{owner.pk}/change/",
        {"team": owner.team.pk, "user": owner.user.pk, "role": "viewer"},
    )
    assert page.status_code == 302
    event = AuditEvent.objects.get(team=owner.team)
    assert (event.actor, event.verb) == ("root@example.com", "changed, as administrator,")
    assert event.after == {"fields": ["Role"]}


def test_a_forged_header_does_not_name_the_address(browser: Client, owner: Membership) -> None:
    browser.post("/team/edit/", {"name": "R", "time_zone": "UTC"}, headers={"x-forwarded-for": "203.0.113.9"})
    assert AuditEvent.objects.get(team=owner.team).ip == "127.0.0.1"


def test_behind_a_proxy_the_address_is_the_last_one_it_wrote(browser: Client, owner: Membership, settings: Any) -> None:
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = 1
    forged = {"x-forwarded-for": "198.51.100.1, 203.0.113.9"}
    browser.post("/team/edit/", {"name": "R", "time_zone": "UTC"}, headers=forged)
    assert AuditEvent.objects.get(team=owner.team).ip == "203.0.113.9"
