"""Sign-up, sign-in, reset, teams and keys."""

import io
import re
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from accounts import keys
from accounts.models import ApiKey, AuditEvent, Membership, Role, Team, User
from tests.factories.accounts import MembershipFactory, TeamFactory, UserFactory

pytestmark = pytest.mark.django_db
PASSWORD = "a-long-enough-passphrase"


def test_signing_up_makes_a_user_with_a_team_of_their_own(client: Client) -> None:
    answer = client.post(
        "/accounts/signup/", {"email": "ada@example.com", "password1": PASSWORD, "password2": PASSWORD}
    )
    assert answer.status_code == 302
    membership = Membership.objects.get(user__email="ada@example.com")
    assert (membership.role, membership.team.slug) == (Role.OWNER, "ada")
    assert client.get("/").status_code == 200


def test_sign_up_can_be_closed(client: Client, settings: object) -> None:
    settings.SIGN_UP_OPEN = False  # type: ignore[attr-defined]
    client.post("/accounts/signup/", {"email": "x@example.com", "password1": PASSWORD, "password2": PASSWORD})
    assert not User.objects.exists()


def test_signing_in_and_out_with_csrf() -> None:
    User.objects.create_user("bob@example.com", PASSWORD)
    client = Client(enforce_csrf_checks=True)
    token = re.search(r'csrfmiddlewaretoken" value="([^"]+)', client.get("/accounts/login/").content.decode())
    assert token
    form = {"login": "bob@example.com", "password": PASSWORD, "csrfmiddlewaretoken": token[1]}
    assert client.post("/accounts/login/", form | {"csrfmiddlewaretoken": "x"}).status_code == 403
    assert client.post("/accounts/login/", form).status_code == 302
    assert "_auth_user_id" in client.session


def test_a_forgotten_password_is_reset_by_mail(client: Client, mailoutbox: list[object]) -> None:
    User.objects.create_user("eve@example.com", PASSWORD)
    client.post("/accounts/password/reset/", {"email": "eve@example.com"})
    link = re.search(r"/accounts/password/reset/key/\S+", mailoutbox[0].body)  # type: ignore[attr-defined]
    assert link
    form_page = client.get(link[0], follow=True)
    address = form_page.redirect_chain[-1][0]
    new = "another-long-passphrase"
    client.post(address, {"password1": new, "password2": new})
    assert User.objects.get(email="eve@example.com").check_password(new)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/models/",
        "/deployments/",
        "/playground/",
        "/billing/",
        "/keys/",
        "/team/",
        "/billing/statements/2026-11.csv",
    ],
)
def test_every_page_asks_to_sign_in_first(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 302
    assert answer.headers["location"].startswith("/accounts/login/")


def test_a_key_is_kept_as_an_hmac_and_shown_once(client: Client) -> None:
    membership = MembershipFactory()
    client.force_login(membership.user)
    shown = client.post("/keys/", {"name": "laptop", "scopes": "models"})
    text = re.search(r"mp_[A-Za-z0-9]{8}_[A-Za-z0-9]{40}", shown.content.decode())
    assert text
    row = ApiKey.objects.get()
    assert row.digest == keys.digest(text[0]) != text[0]
    assert keys.look_up(text[0]) == row
    assert "no-store" in shown.headers["cache-control"]
    assert text[0] not in client.get("/keys/").content.decode()
    assert AuditEvent.objects.filter(team=membership.team, verb="issued the key").exists()


def test_a_revoked_an_expired_and_a_garbled_key_open_nothing() -> None:
    team = TeamFactory()
    row, text = keys.issue(team, name="a")
    keys.revoke(row)
    _, late = keys.issue(team, name="b", expires_at=timezone.now() - timedelta(seconds=1))
    assert [keys.look_up(each) for each in (text, late, "mp_x", "", "mp_\0", "é" * 50)] == [None] * 6


def test_another_teams_key_is_not_found(client: Client) -> None:
    row, text = keys.issue(TeamFactory(), name="theirs")
    client.force_login(MembershipFactory().user)
    assert client.post(f"/keys/{row.pk}/revoke/").status_code == 404
    assert keys.look_up(text)


@pytest.mark.parametrize("role", [Role.BILLING, Role.VIEWER])
def test_some_roles_may_look_at_keys_but_not_make_them(client: Client, role: Role) -> None:
    client.force_login(MembershipFactory(role=role).user)
    assert client.get("/keys/").status_code == 200
    assert client.post("/keys/", {"name": "x", "scopes": "models"}).status_code == 403
    assert not ApiKey.objects.exists()


def test_the_switcher_goes_to_ones_own_teams_only(client: Client) -> None:
    user = UserFactory()
    MembershipFactory(user=user)
    second = MembershipFactory(user=user).team
    client.force_login(user)
    client.post("/team/switch/", {"team": second.slug})
    assert client.get("/team/").context["team"] == second
    assert client.post("/team/switch/", {"team": TeamFactory().slug}).status_code == 404
    assert (
        client.post("/team/switch/", {"team": second.slug, "next": "https://evil.example/"}).headers["location"] == "/"
    )


def test_a_new_team_needs_a_real_time_zone(client: Client) -> None:
    client.force_login(UserFactory())
    assert client.get("/").headers["location"] == "/team/new/"
    bad = client.post("/team/new/", {"name": "North", "time_zone": "Mars/Olympus"})
    assert "no IANA time zone" in bad.content.decode()
    client.post("/team/new/", {"name": "North", "time_zone": "Europe/Oslo"})
    assert Team.objects.get().time_zone == "Europe/Oslo"


def test_issue_key_prints_the_key_alone() -> None:
    team = TeamFactory()
    out = io.StringIO()
    call_command("issue_key", "--team", team.slug, "--name", "ci", stdout=out)
    assert keys.look_up(out.getvalue().strip())
    assert out.getvalue().count("\n") == 1
    with pytest.raises(CommandError):
        call_command("issue_key", "--team", "nobody", "--name", "ci", stdout=out)
