"""Aliases, limits and the request log, as a team's members and programs meet them."""

import csv
import io
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import keys
from accounts.models import Role, Team
from billing.models import Budget
from gateway.models import Alias, Limits, RequestRecord
from tests.factories.accounts import MembershipFactory, TeamFactory

pytestmark = pytest.mark.django_db


def signed_in(client: Client, role: Role = Role.OWNER) -> Team:
    membership = MembershipFactory(role=role)
    client.force_login(membership.user)
    return membership.team


def targets(*lines: tuple[str, str, str]) -> dict[str, Any]:
    form = {"targets-TOTAL_FORMS": str(len(lines)), "targets-INITIAL_FORMS": "0"}
    for place, (model, kind, weight) in enumerate(lines):
        form |= {f"targets-{place}-model": model, f"targets-{place}-kind": kind, f"targets-{place}-weight": weight}
    return form


def record(team: Team, **more: Any) -> RequestRecord:
    given = {
        "team": team, "at": timezone.now(), "request_id": "req_1", "api_key_name": "laptop (mp_x)", "surface": "chat",
        "asked": "good", "model": "good", "path": "hosted", "status": 200, "attempts": 1, "total_ms": 12,
    }  # fmt: skip
    return RequestRecord.objects.create(**given | more)


def test_an_alias_without_a_target_is_refused_and_says_so(client: Client) -> None:
    signed_in(client)
    page = client.post(reverse("alias-new"), {"name": "chat", **targets(("", "0", "1"))})
    assert page.status_code == 400
    assert "at least one target" in page.content.decode()
    assert not Alias.objects.exists()


def test_an_alias_to_what_the_team_cannot_call_is_refused(client: Client) -> None:
    signed_in(client)
    page = client.post(reverse("alias-new"), {"name": "chat", **targets(("other/secret", "0", "1"))})
    assert page.status_code == 400
    assert not Alias.objects.exists()


@pytest.mark.parametrize("role", [Role.VIEWER, Role.BILLING])
def test_who_may_not_make_things_sees_aliases_and_changes_none(client: Client, role: Role) -> None:
    team = signed_in(client, role)
    row = Alias.objects.create(team=team, name="chat")
    assert client.get(reverse("alias-list")).status_code == 200
    assert client.get(reverse("alias-new")).status_code == 403
    assert client.post(reverse("alias-delete", args=[row.pk])).status_code == 403
    assert client.post(reverse("limits"), {"key": ""}).status_code == 403
    assert Alias.objects.count() == 1


def test_another_teams_alias_is_a_404_everywhere(client: Client) -> None:
    signed_in(client)
    row = Alias.objects.create(team=TeamFactory(), name="chat")
    for name in ("alias-edit", "alias-delete"):
        assert client.post(reverse(name, args=[row.pk])).status_code == 404
    _, key = keys.issue(TeamFactory(), name="k")
    for method in ("get", "put", "delete"):
        answer = getattr(client, method)(
            reverse("api-alias", args=[row.pk]), headers={"authorization": f"Bearer {key}"}
        )
        assert answer.status_code == 404


def test_limits_of_a_key_and_its_budget_are_kept_and_can_be_taken_away(client: Client) -> None:
    team = signed_in(client)
    key, _ = keys.issue(team, name="laptop")
    given = {"key": key.prefix, "requests_per_minute": "60", "tokens_per_minute": "", "concurrency": "4"}
    client.post(reverse("limits"), {**given, "monthly_usd": "12.50"})
    row = Limits.objects.get()
    assert (row.api_key_id, row.requests_per_minute, row.tokens_per_minute, row.concurrency) == (key.pk, 60, None, 4)
    assert str(Budget.objects.get(scope="key").usd) == "12.50"
    assert "12.50" in client.get(reverse("limits")).content.decode()
    client.post(reverse("limits"), {"key": key.prefix})
    assert not Budget.objects.exists()


def test_the_log_shows_only_the_teams_own_requests_filtered_and_as_csv(client: Client) -> None:
    team = signed_in(client)
    record(team, asked="good", request_id="req_mine")
    record(team, asked="=cmd()", status=429, code="rate_limit_exceeded")
    record(team, asked="long-gone", at=timezone.now() - timedelta(days=3))
    record(TeamFactory(), request_id="req_theirs")
    page = client.get(reverse("request-list")).content.decode()
    assert "req_mine" in page
    assert "req_theirs" not in page
    assert "long-gone" not in client.get(reverse("request-list"), {"since": timezone.now().date()}).content.decode()
    raw = b"".join(client.get(reverse("request-csv"), {"status": "failed"}).streaming_content).decode()  # type: ignore[attr-defined]
    rows = list(csv.DictReader(io.StringIO(raw)))
    assert [row["asked"] for row in rows] == ["'=cmd()"]


def test_a_broken_filter_is_no_error(client: Client) -> None:
    signed_in(client)
    for query in ({"since": "2026-99-99"}, {"status": "9" * 400}, {"page": "x"}, {"path": "<script>"}):
        assert client.get(reverse("request-list"), query).status_code == 200
