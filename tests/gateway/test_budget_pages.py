"""The budgets page and its API: who sees and changes what, and what is said about it."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import keys
from accounts.models import Role, Team
from billing import credits, metering
from billing.models import AlertSettings, Budget, Delivery
from catalog.models import Weights
from deployments import committed
from deployments.models import Deployment
from tests.factories.accounts import MembershipFactory, TeamFactory
from tests.factories.billing import billed, call
from tests.factories.deployments import smollm2

pytestmark = pytest.mark.django_db
D = Decimal
NEW = {"about": "team:", "period": "monthly", "usd": "12.50", "hard": "on", "alert_percents": "80, 50 100%"}


def signed_in(client: Client, role: Role = Role.OWNER) -> Team:
    membership = MembershipFactory(role=role)
    client.force_login(membership.user)
    return membership.team


def deployment(team: Team, name: str, **given: Any) -> Deployment:
    model, hardware = smollm2()
    return Deployment.objects.create(
        team=team, name=name, model=model, hardware=hardware, weights=Weights.objects.get(), engine="llama_cpp",
        backend="local", **given,
    )  # fmt: skip


def test_a_budget_is_made_changed_and_deleted(client: Client) -> None:
    team = signed_in(client, Role.BILLING)
    assert "Set the first one" in client.get(reverse("budget-list")).content.decode()
    client.post(reverse("budget-new"), NEW)
    row = Budget.objects.get()
    assert (row.team, row.scope, row.usd, row.hard, row.alert_percents) == (
        team,
        "team",
        D("12.50"),
        True,
        [50, 80, 100],
    )
    billed(team, prices={"tokens.input": D("0.05"), "tokens.output": D(0)}, started_at=timezone.now())
    metering.reserve(call(team, prices={"tokens.input": D("0.01"), "tokens.output": D(0)}, started_at=timezone.now()))
    page = client.get(reverse("budget-list")).content.decode()
    assert "40.00 % spent" in page
    assert "$1.00 held by calls in flight" in page
    again = client.post(reverse("budget-new"), NEW)
    assert again.status_code == 400
    assert "has a monthly budget already" in again.content.decode()
    client.post(reverse("budget-edit", args=[row.pk]), {"usd": "20", "alert_percents": ""})
    row.refresh_from_db()
    assert (row.usd, row.hard, row.alert_percents) == (20, False, [])
    client.post(reverse("budget-delete", args=[row.pk]))
    assert not Budget.objects.exists()


def test_a_fixed_budget_begins_now_at_the_earliest_and_ends_with_its_last_day(client: Client) -> None:
    team = signed_in(client)
    row = deployment(team, "chat", min_replicas=0)
    today = timezone.now().date()
    fixed = NEW | {"about": "deployment:chat", "period": "fixed", "starts": "2020-01-01", "ends": today.isoformat()}
    client.post(reverse("budget-new"), fixed)
    made = Budget.objects.get()
    assert (made.subject, made.label) == ("chat", row.endpoint_model)
    assert timezone.now() - made.starts_at < timedelta(seconds=30)
    assert made.ends_at.date() == today + timedelta(days=1)
    assert client.post(reverse("budget-new"), fixed | {"ends": "2020-01-02"}).status_code == 400
    assert client.post(reverse("budget-new"), fixed | {"ends": ""}).status_code == 400
    assert client.post(reverse("budget-new"), fixed | {"about": "deployment:other"}).status_code == 400
    assert Budget.objects.count() == 1


@pytest.mark.parametrize("role", [Role.DEVELOPER, Role.VIEWER])
def test_who_may_not_keep_the_money_may_look(client: Client, role: Role) -> None:
    team = signed_in(client, role)
    row = Budget.objects.create(team=team, usd=5)
    assert client.get(reverse("budget-list")).status_code == 200
    for name, args in (("budget-new", []), ("budget-edit", [row.pk]), ("budget-delete", [row.pk]), ("alerts-set", []),
                       ("alerts-test", []), ("alerts-secret", [])):  # fmt: skip
        assert client.post(reverse(name, args=args), NEW).status_code == 403, name
    assert client.post("/api/v1/budgets", {"usd": "1"}, content_type="application/json").status_code == 403
    assert Budget.objects.get().usd == 5


def test_another_teams_budget_is_not_found(client: Client) -> None:
    signed_in(client)
    other = Budget.objects.create(team=TeamFactory(), usd=5)
    assert client.get(reverse("budget-edit", args=[other.pk])).status_code == 404
    assert client.post(reverse("budget-delete", args=[other.pk])).status_code == 404
    assert client.get(f"/api/v1/budgets/{other.pk}").status_code == 404


def test_the_page_says_what_is_committed_and_which_credits_are_left(client: Client) -> None:
    team = signed_in(client)
    deployment(team, "steady", min_replicas=2, status="ready")
    deployment(team, "sleepy", min_replicas=0, status="ready")
    Budget.objects.create(team=team, usd=D("0.01"))
    credits.grant(team, name="Welcome credit", usd=D(25), actor="a", expires_at=timezone.now() + timedelta(days=9))
    page = client.get(reverse("budget-list"))
    text = page.content.decode()
    assert [(burn.deployment, burn.replicas) for burn in page.context["burns"]] == [("steady", 2)]
    (line,) = page.context["lines"]
    assert 0 < line.committed <= page.context["burn_per_hour"] * 24 * 31
    assert committed.per_second_by_team([team]) == {team.pk: committed.per_second(page.context["burns"])}
    assert "Welcome credit" in text
    assert "$25.00 of it are credits" in text


def test_alerts_are_set_with_a_secret_shown_once_and_tested_at_once(client: Client, settings: Any) -> None:
    settings.PRIVATE_WEBHOOKS = True
    team = signed_in(client)
    given = {"emails": "a@example.com, b@example.com", "webhook_url": "http://127.0.0.1:9/hook"}
    page = client.post(reverse("alerts-set"), given)
    secret = page.context["secret"]
    assert secret in page.content.decode()
    assert page["cache-control"] == "no-store"
    row = AlertSettings.objects.get()
    assert secret not in row.sealed_secret
    assert secret not in client.get(reverse("budget-list")).content.decode()
    tested = client.post(reverse("alerts-test"), follow=True).content.decode()
    assert "a@example.com: handed to the mail server" in tested
    assert "Connection refused" in tested
    assert not Delivery.objects.filter(team=team).exclude(due_at=None).exists(), "a test is sent once"
    settings.PRIVATE_WEBHOOKS = False
    refused = client.post(reverse("alerts-set"), given | {"webhook_url": "https://127.0.0.1/"})
    assert refused.status_code == 400
    assert "private address" in refused.content.decode()
    assert client.post(reverse("alerts-set"), {"emails": "nobody"}).status_code == 400


def test_programs_read_budgets_and_a_key_cannot_raise_its_own(client: Client) -> None:
    team = signed_in(client)
    api_key, key = keys.issue(team, name="k")
    made = client.post(
        "/api/v1/budgets", {"scope": "key", "subject": str(api_key.pk), "usd": "3.00"}, content_type="application/json"
    )
    assert made.status_code == 201, made.content
    billed(
        team,
        api_key_id=api_key.pk,
        started_at=timezone.now(),
        prices={"tokens.input": D("0.01"), "tokens.output": D(0)},
    )
    client.logout()
    headers = {"authorization": f"Bearer {key}"}
    (row,) = client.get("/api/v1/budgets", headers=headers).json()
    assert (row["usd"], row["spent_usd"], row["left_usd"], row["hard"]) == ("3.00", "1", "2", True)
    body = {"usd": "999"}
    for method, path in (("post", "/api/v1/budgets"), ("put", f"/api/v1/budgets/{row['id']}")):
        answer = getattr(client, method)(path, body, content_type="application/json", headers=headers)
        assert answer.status_code == 403
    assert client.delete(f"/api/v1/budgets/{row['id']}", headers=headers).status_code == 403
