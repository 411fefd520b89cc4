"""Invitations: through the mail box into the team, once, in time, as the role that was given and no more."""

import re
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from django.core import mail
from django.test import Client
from django.utils import timezone

from accounts.models import AuditEvent, Invitation, Membership, Quota, Role, User
from tests.factories.accounts import MembershipFactory, UserFactory
from tests.factories.catalog import load_starter

PASSWORD = "a-long-quiet-river"
ADDRESS = "new@example.com"


def _invite(browser: Client, *, email: str = ADDRESS, role: str = "billing") -> str:
    """The path in the mail that came."""
    assert browser.post("/team/invitations/", {"email": email, "role": role}).status_code == 200
    return _path()


def _path() -> str:
    (link,) = re.findall(r"https?://\S+/join/\S+", str(mail.outbox[-1].body))
    return urlsplit(link).path


def _join(path: str) -> tuple[Client, Any]:
    """A new browser opens the link, and fills in the page that it leads to."""
    person = Client()
    opened = person.get(path)
    return person, opened if opened.status_code == 410 else _filled(person, PASSWORD)


def _account() -> User:
    theirs = UserFactory(email=ADDRESS)
    theirs.set_password(PASSWORD)
    theirs.save()
    return theirs


def _filled(person: Client, password: str, again: str = "") -> Any:
    return person.post("/join/", {"password1": password, "password2": again or password})


def test_somebody_new_joins_with_the_role_that_the_mail_says(browser: Client, owner: Membership, settings: Any) -> None:
    settings.SIGN_UP_OPEN = False
    path = _invite(browser)
    assert mail.outbox[0].to == [ADDRESS]
    assert "as billing" in str(mail.outbox[0].body)
    assert "Choose a password" in Client().get(path, follow=True).content.decode()
    person, answer = _join(path)
    assert answer["Location"] == "/"
    member = Membership.objects.get(user__email=ADDRESS)
    assert (member.team, member.role) == (owner.team, Role.BILLING)
    assert person.get("/team/").context["team"] == owner.team
    assert AuditEvent.objects.filter(team=owner.team, verb="joined the team", actor=ADDRESS).exists()


def test_a_billing_member_sees_costs_and_takes_the_csv_but_neither_deploys_nor_makes_keys(
    browser: Client, owner: Membership
) -> None:
    person, _ = _join(_invite(browser))
    assert person.get("/billing/").status_code == 200
    month = f"{timezone.now():%Y-%m}"
    statement = person.get(f"/billing/statements/{month}.csv")
    assert (statement.status_code, statement["content-type"].split(";")[0]) == (200, "text/csv")
    assert person.post("/keys/", {"name": "mine"}).status_code == 403
    assert "Your role in this team, billing, may look at keys" in person.get("/keys/").content.decode()
    load_starter()
    model = "smollm2-135m-instruct"
    wish = {"model": model, "hardware": "cpu-small", "name": "mine"}
    assert person.post(f"/deployments/new?model={model}", wish).status_code == 403
    assert person.post("/api/v1/deployments", wish, content_type="application/json").status_code == 403
    assert person.post("/team/invitations/", {"email": "x@example.com", "role": "viewer"}).status_code == 403


def test_an_accountant_reads_the_bills_of_several_teams_and_changes_nothing(browser: Client, owner: Membership) -> None:
    assert "Billing, read only" in browser.get("/team/").content.decode()
    person, answer = _join(_invite(browser, role="accountant"))
    assert answer["Location"] == "/"
    second = MembershipFactory(user=User.objects.get(email=ADDRESS), role=Role.ACCOUNTANT).team
    MembershipFactory(user=User.objects.get(email=ADDRESS), role=Role.VIEWER)
    page = person.get("/billing/?scope=all")
    assert set(page.wsgi_request.kept) == {owner.team, second}  # type: ignore[attr-defined]
    month = f"{timezone.now():%Y-%m}"
    for path in ("/budgets/", "/billing/invoices/", f"/billing/statements/{month}.csv", "/api/v1/budgets"):
        assert person.get(path).status_code == 200, path
    budget = {"scope": "team", "usd": "5"}
    assert person.post("/api/v1/budgets", budget, content_type="application/json").status_code == 403
    assert person.post("/budgets/new/", budget).status_code == 403
    assert person.post("/billing/invoices/settings/", {"emails": ADDRESS}).status_code == 403
    assert person.get("/team/audit/").status_code == 403
    assert "Your role in this team, accountant, may look at budgets" in person.get("/budgets/").content.decode()


def test_a_token_is_kept_as_a_hash_and_works_once(browser: Client, owner: Membership) -> None:
    path = _invite(browser)
    secret = path.split("/")[2].split(":")[0]
    assert secret not in str(Invitation.objects.values_list()[0])
    looker = Client()
    for _ in range(2):
        assert looker.get(path)["Location"] == "/join/"  # looking uses nothing up
    assert secret not in str(dict(looker.session))
    _join(path)
    again, answer = _join(path)
    assert answer.status_code == 410
    assert "works once" in answer.content.decode()
    assert "_auth_user_id" not in again.session


def test_a_token_that_is_too_old_forged_or_taken_back_opens_nothing(browser: Client, owner: Membership) -> None:
    path = _invite(browser)
    assert Client().get(path[:-3] + "xx/").status_code == 410
    assert Client().get("/join/a:b/").status_code == 410
    row = Invitation.objects.get()
    assert timedelta(days=6, hours=23) < row.expires_at - timezone.now() <= timedelta(days=7)
    assert browser.post(f"/team/invitations/{row.pk}/resend/").status_code == 409  # a mail has just gone out
    Invitation.objects.update(expires_at=timezone.now(), sent_at=timezone.now() - timedelta(minutes=2))
    assert "was good until" in _join(path)[1].content.decode()
    browser.post(f"/team/invitations/{row.pk}/resend/")
    newer = _path()
    assert _join(path)[1].status_code == 410
    opened = Client()
    opened.get(newer)
    browser.post(f"/team/invitations/{row.pk}/revoke/")
    assert _join(newer)[1].status_code == 410
    assert _filled(opened, PASSWORD).status_code == 410
    assert not User.objects.filter(email=ADDRESS).exists()


def test_who_has_an_account_signs_in_and_joins(browser: Client, owner: Membership) -> None:
    User.objects.create_user(ADDRESS, PASSWORD)
    path = _invite(browser, email=ADDRESS.upper())
    person = Client()
    page = person.get(path, follow=True).content.decode()
    (sign_in,) = re.findall(r'href="(/accounts/login/\?next=[^"]+)"', page)
    back = person.post(sign_in, {"login": ADDRESS, "password": PASSWORD, "next": "/join/"})
    assert back["Location"] == "/join/"
    assert person.post("/join/")["Location"] == "/"
    assert Membership.objects.get(user__email=ADDRESS).role == Role.BILLING


def test_an_account_that_was_prepared_for_another_s_address_keeps_no_way_in(browser: Client, owner: Membership) -> None:
    theirs = _account()
    EmailAddress.objects.create(user=theirs, email=ADDRESS, primary=True, verified=False)
    EmailAddress.objects.create(user=theirs, email="prepared@example.org", verified=True)
    elsewhere, person = Client(), Client()
    for one in (elsewhere, person):
        one.post("/accounts/login/", {"login": ADDRESS, "password": PASSWORD})
        assert one.get("/accounts/email/").status_code == 200
    Authenticator.objects.create(user=theirs, type=Authenticator.Type.WEBAUTHN, data={"name": "of another"})
    SocialAccount.objects.create(user=theirs, provider="company", uid="of another")
    person.get(_invite(browser))
    assert "second factors and sign-ons were removed" in person.post("/join/", follow=True).content.decode()
    assert [(one.email, one.verified) for one in EmailAddress.objects.filter(user=theirs)] == [(ADDRESS, True)]
    assert not Authenticator.objects.filter(user=theirs).exists()
    assert not SocialAccount.objects.filter(user=theirs).exists()
    assert elsewhere.get("/accounts/email/").status_code == 302, "signed out"
    assert person.get("/team/").status_code == 200
    joined = AuditEvent.objects.get(team=owner.team, verb="joined the team")
    assert joined.after == {"role": "billing", "other ways in": "removed"}


@pytest.mark.parametrize("proven", ["confirmed", "signed on elsewhere"])
def test_who_is_known_to_be_themselves_keeps_what_they_have(browser: Client, owner: Membership, proven: str) -> None:
    theirs = _account()
    if proven == "signed on elsewhere":
        theirs.set_unusable_password()
        theirs.save()
    EmailAddress.objects.create(user=theirs, email=ADDRESS, primary=True, verified=proven == "confirmed")
    Authenticator.objects.create(user=theirs, type=Authenticator.Type.WEBAUTHN, data={"name": "their own"})
    SocialAccount.objects.create(user=theirs, provider="company", uid="their own")
    person = Client()
    person.force_login(theirs)
    person.get(_invite(browser))
    assert person.post("/join/").status_code == 302
    assert Authenticator.objects.filter(user=theirs).exists()
    assert SocialAccount.objects.filter(user=theirs).exists()


def test_it_is_for_its_own_address_alone(browser: Client, owner: Membership) -> None:
    path = _invite(browser)
    other = Client()
    other.force_login(UserFactory())
    assert f"This invitation is for {ADDRESS}" in other.get(path, follow=True).content.decode()
    assert other.post("/join/").status_code == 400
    assert owner.team.memberships.count() == 1
    assert "Choose a password" in Client().get(path, follow=True).content.decode()


def test_a_weak_password_makes_no_account(browser: Client, owner: Membership) -> None:
    path = _invite(browser)
    person = Client()
    person.get(path)
    assert _filled(person, "short").status_code == 400
    assert _filled(person, PASSWORD, "other").status_code == 400
    assert not User.objects.filter(email=ADDRESS).exists()


def test_nobody_is_invited_twice_nor_a_member(browser: Client, owner: Membership) -> None:
    _invite(browser)
    again = browser.post("/team/invitations/", {"email": "New@example.com", "role": "viewer"})
    assert (again.status_code, "is invited already" in again.content.decode()) == (400, True)
    member = browser.post("/team/invitations/", {"email": owner.user.email, "role": "viewer"})
    assert "is a member already" in member.content.decode()
    assert len(mail.outbox) == 1


def test_a_mail_that_can_t_be_sent_leaves_the_link_to_hand_over(
    browser: Client, owner: Membership, settings: Any
) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    page = browser.post("/team/invitations/", {"email": ADDRESS, "role": "viewer"})
    assert "could not be sent" in page.content.decode()
    assert "no-store" in page["Cache-Control"]
    (link,) = re.findall(r"https?://[^<\s]+/join/[^<\s]+", page.content.decode())
    assert _join(urlsplit(link).path)[1]["Location"] == "/"


def test_the_invitations_of_who_is_removed_die_with_them(browser: Client, owner: Membership) -> None:
    admin = MembershipFactory(team=owner.team, role=Role.ADMIN)
    theirs = Client()
    theirs.force_login(admin.user)
    path = _invite(theirs, role="admin")
    browser.post(f"/team/members/{admin.pk}/remove/")
    assert _join(path)[1].status_code == 410


def test_another_team_s_invitation_does_not_exist_here(browser: Client, client: Client, owner: Membership) -> None:
    _invite(browser)
    row = Invitation.objects.get()
    stranger = Client()
    stranger.force_login(MembershipFactory().user)
    assert stranger.post(f"/team/invitations/{row.pk}/revoke/").status_code == 404
    assert stranger.post(f"/team/invitations/{row.pk}/resend/").status_code == 404


def test_members_and_open_invitations_have_a_quota(browser: Client, owner: Membership) -> None:
    Quota.objects.create(team=owner.team, what="members", most=2)
    _invite(browser)
    answer = browser.post("/team/invitations/", {"email": "third@example.com", "role": "viewer"})
    assert answer.status_code == 400
    assert "quota is 2 members and open invitations, and 2 are in use" in answer.content.decode()


@pytest.mark.parametrize("email", ["", "nobody", "a@b", "a\x00@example.com", "x@example.com\nbcc: y@example.com"])
def test_only_an_address_is_invited(browser: Client, owner: Membership, email: str) -> None:
    assert browser.post("/team/invitations/", {"email": email, "role": "viewer"}).status_code == 400
    assert not mail.outbox
