"""Django's admin shows no secret, and its audit trail can't be touched."""

import pytest
from django.test import Client

from accounts import audit, keys, quotas
from accounts.models import Membership, User

MODELS = ["user", "team", "membership", "invitation", "quota", "apikey", "auditevent"]


@pytest.fixture
def admin(client: Client, db: None) -> Client:
    client.force_login(User.objects.create_superuser("root@example.com", "a-long-quiet-river"))
    return client


@pytest.mark.parametrize("model", MODELS)
def test_every_list_opens(admin: Client, owner: Membership, model: str) -> None:
    keys.issue(owner.team, name="laptop")
    audit.record(owner.team, actor="ada@example.com", verb="did", subject="something")
    assert admin.get(f"/admin/accounts/{model}/").status_code == 200


def test_a_user_s_page_opens_and_a_user_is_made(admin: Client, owner: Membership) -> None:
    assert admin.get(f"/admin/accounts/user/{owner.user.pk}/change/").status_code == 200
    fields = {"email": "new@example.com", "password1": "a-long-quiet-river", "password2": "a-long-quiet-river"}
    assert admin.post("/admin/accounts/user/add/", fields | {"usable_password": "true"}).status_code == 302
    assert User.objects.get(email="new@example.com").check_password("a-long-quiet-river")


def test_a_key_s_page_shows_no_digest(admin: Client, owner: Membership) -> None:
    row, _ = keys.issue(owner.team, name="laptop")
    page = admin.get(f"/admin/accounts/apikey/{row.pk}/change/").content.decode()
    assert row.prefix in page
    assert row.digest not in page


def test_a_key_can_be_revoked_there(admin: Client, owner: Membership) -> None:
    row, text = keys.issue(owner.team, name="laptop")
    admin.post("/admin/accounts/apikey/", {"action": "revoke", "_selected_action": [str(row.pk)]})
    assert keys.look_up(text) is None


@pytest.mark.parametrize("model", ["apikey", "auditevent"])
def test_nothing_there_is_made_or_deleted_by_hand(admin: Client, owner: Membership, model: str) -> None:
    audit.record(owner.team, actor="ada@example.com", verb="did", subject="something")
    row = owner.team.audit_events.get() if model == "auditevent" else keys.issue(owner.team, name="laptop")[0]
    assert admin.get(f"/admin/accounts/{model}/add/").status_code == 403
    assert admin.post(f"/admin/accounts/{model}/{row.pk}/delete/", {"post": "yes"}).status_code == 403
    assert admin.post(f"/admin/accounts/{model}/{row.pk}/change/", {"name": "x"}).status_code == 403


def test_an_owner_is_no_administrator(browser: Client) -> None:
    assert browser.get("/admin/accounts/user/").status_code == 302


OTHERS = ["billing/price", "billing/pricedraft", "catalog/provider", "catalog/model", "catalog/offer"]
OTHERS += ["catalog/hardware", "catalog/licence", "gateway/alias", "gateway/limits"]


@pytest.mark.parametrize("model", OTHERS)
def test_every_list_can_be_searched(admin: Client, model: str) -> None:
    page = admin.get(f"/admin/{model}/?q=nothing")
    assert page.status_code == 200
    assert 'name="q"' in page.content.decode()


def test_second_factors_and_sign_on_secrets_are_not_listed(admin: Client) -> None:
    for path in (
        "mfa/authenticator",
        "socialaccount/socialtoken",
        "socialaccount/socialapp",
        "usersessions/usersession",
    ):
        assert admin.get(f"/admin/{path}/").status_code == 404


def test_a_quota_is_set_there(admin: Client, owner: Membership) -> None:
    fields = {"team": owner.team.pk, "what": "keys", "of": "", "most": "3"}
    assert admin.post("/admin/accounts/quota/add/", fields).status_code == 302
    assert quotas.most(owner.team, "keys") == 3
    assert admin.post("/admin/accounts/quota/add/", fields | {"of": "gpu"}).status_code == 200
