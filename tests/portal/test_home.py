"""The home page: in at most twelve queries whatever the rows, and what it says is what is so."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import keys
from accounts.models import Membership, Role, Team
from billing import budgets
from catalog.licensing import agreements, stating
from catalog.licensing.models import LicenceText
from catalog.lifecycle import Status as WeightsStatus
from catalog.models import Licence, Model, Provider, Weights
from catalog.uploads.models import Draft
from deployments import operations
from deployments.models import Deployment, Replica
from gateway.models import RequestRecord
from portal import home as homes
from portal.sample.filling import fill
from tests.factories.accounts import MembershipFactory
from tests.factories.billing import billed
from tests.factories.catalog import load_starter
from tests.factories.deployments import smollm2

pytestmark = pytest.mark.django_db


@pytest.fixture
def member(client: Client) -> Membership:
    found: Membership = MembershipFactory()
    client.force_login(found.user)
    return found


def titles(client: Client) -> list[str]:
    return [one.title for one in client.get("/").context["home"].concerns]


def test_twelve_queries_are_enough_for_a_full_team_and_its_operator(client: Client) -> None:
    load_starter()
    filled = fill(until=timezone.now(), days=2, seed=7)
    assert filled
    user = MembershipFactory(team=filled.team).user
    user.is_staff = True
    user.save()
    client.force_login(user)
    model, hardware = Model.objects.get(slug="smollm2-135m-instruct"), Deployment.objects.all()[0].hardware
    for number in range(12):
        row = operations.deploy(filled.team, model=model, hardware=hardware, name=f"d{number}", actor="a")
        Replica.objects.create(deployment=row)
    client.get("/")
    with CaptureQueriesContext(
        connection,
    ) as caught:
        page = client.get("/")
    assert len(caught) <= 12, "\n".join(query["sql"][:150] for query in caught)
    text = page.content.decode()
    for word in (
        "Needs attention",
        "translate has failed",
        "The key coding expires soon",
        "have no key",
        "Recent calls",
    ):
        assert word in text, word
    assert "6 more" in text  # of 14 deployments 8 are shown
    assert not page.context["home"].is_new or page.context["home"].done >= 4


def test_a_new_teams_steps_check_themselves(client: Client, member: Membership) -> None:
    model, hardware = smollm2()

    def done() -> list[str]:
        return [step.text for step, _ in client.get("/").context["steps"] if step.done]

    assert done() == []
    client.get(f"/models/{model.slug}/")
    assert done() == ["Look at a model"]
    keys.issue(member.team, name="k")
    billed(member.team, started_at=timezone.now())
    operations.deploy(member.team, model=model, hardware=hardware, actor="a")
    budgets.set_monthly(member.team, Decimal(10))
    assert "Invite a colleague" not in done()
    MembershipFactory(team=member.team)
    assert len(done()) == 6
    assert "First steps" not in client.get("/").content.decode()


def test_what_runs_is_shown_with_its_replicas_and_what_an_hour_costs(client: Client, member: Membership) -> None:
    model, hardware = smollm2()
    now = timezone.now()
    row = operations.deploy(member.team, model=model, hardware=hardware, name="mine", max_replicas=4, actor="a")
    Replica.objects.create(deployment=row, started_at=now, ready_at=now)
    Replica.objects.create(deployment=row, ordinal=1)
    Replica.objects.create(deployment=row, ordinal=2, exited_at=now)
    (one,) = client.get("/").context["home"].running
    assert one.dots == ["ready", "starting", "", ""]
    assert one.now_per_hour == Decimal("0.072")
    assert 'hx-trigger="every 3s"' in client.get("/").content.decode()
    part = client.get("/", headers={"hx-request": "true"}).content.decode()
    assert "Running now" in part
    assert "Recent calls" not in part
    Deployment.objects.update(status="asleep")
    assert "every 3s" not in client.get("/").content.decode()  # nothing is left to wait for


def test_of_many_deployments_few_are_read_and_all_are_counted(client: Client, member: Membership) -> None:
    model, hardware = smollm2()
    row = operations.deploy(member.team, model=model, hardware=hardware, name="d0", actor="a")
    Licence.objects.update(commercial_use=None)
    fields = {name: getattr(row, name) for name in ("team", "model", "weights", "hardware", "engine", "backend")}
    for number in range(1, 40):
        status = {1: "ready", 2: "failed"}.get(number % 4, "asleep")
        made = Deployment.objects.create(**fields, name=f"d{number}", status=status, reason="start_timeout")
        if status == "ready":
            Replica.objects.create(deployment=made, started_at=made.created_at, ready_at=made.created_at)
            Replica.objects.create(deployment=made, ordinal=1)
    Deployment.objects.filter(name="d0").update(status="asleep")
    agreements.set_use(member.team, f"{member.team.slug}/d8", "product", actor="a")
    with CaptureQueriesContext(connection) as seen:
        home = client.get("/").context["home"]
    assert len(seen) <= 11, [query["sql"][:100] for query in seen]
    assert (len(home.running), home.count, home.more, home.awake) == (8, 40, 32, 20)
    assert home.per_hour == 20 * Decimal("0.036")
    assert {one.row.status for one in home.running} == {"ready"}
    assert [one.row.name for one in home.running] == [f"d{number}" for number in range(37, 5, -4)]
    slug = member.team.slug
    assert [one.title for one in home.concerns] == [
        *(f"{slug}/d{number} has failed" for number in (38, 34, 30, 26, 22)), "5 more deployments have failed",
        f"The licence of {slug}/d0 and 38 more has not been agreed to",
        f"The licence of {slug}/d8 has not been agreed to",
    ]  # fmt: skip


def test_today_and_the_month_are_split_by_path_by_the_teams_clock(client: Client, member: Membership) -> None:
    now = timezone.now()
    billed(member.team, {"tokens.input": 1_000_000}, started_at=now)
    billed(member.team, {"tokens.input": 2_000_000}, started_at=now, path="serverless")
    spent = client.get("/").context["home"].spent
    assert (spent.hosted_today, spent.serverless_today, spent.month) == (
        Decimal("0.02"),
        Decimal("0.04"),
        Decimal("0.06"),
    )
    assert spent.shares == pytest.approx((100 / 3, 200 / 3, 0))
    budgets.set_monthly(member.team, Decimal("0.12"))
    spent = client.get("/").context["home"].spent
    assert spent.shares == pytest.approx((100 / 6, 200 / 6, 0))
    assert spent.budget.left == Decimal("0.06")


def test_a_day_begins_by_the_teams_clock(client: Client, member: Membership) -> None:
    Team.objects.update(time_zone="Europe/Berlin")
    team = Team.objects.get()
    for hour in (22, 23):  # half past eleven on the 9th, and half an hour after midnight on the 10th
        billed(team, {"tokens.input": 1_000_000}, started_at=datetime(2026, 11, 9, hour, 30, tzinfo=UTC))
    now = datetime(2026, 11, 10, 12, tzinfo=UTC)
    spent = homes.of(team, is_staff=False, looked=False, now=now).spent
    assert (spent.today, spent.month, spent.days_left) == (Decimal("0.02"), Decimal("0.04"), 21)


def test_a_budget_that_is_nearly_spent_and_one_that_is_are_told(client: Client, member: Membership) -> None:
    billed(member.team, {"tokens.input": 10_000_000}, started_at=timezone.now())
    budgets.set_monthly(member.team, Decimal("0.30"))
    assert titles(client) == []
    budgets.set_monthly(member.team, Decimal("0.24"))
    assert titles(client) == ["83 % of the budget for the team is spent"]
    budgets.set_monthly(member.team, Decimal("0.20"))
    assert titles(client) == ["The budget for the team is spent"]


def test_each_concern_leads_to_what_mends_it(client: Client, member: Membership) -> None:
    model, hardware = smollm2()
    row = operations.deploy(member.team, model=model, hardware=hardware, name="mine", actor="a")
    Deployment.objects.update(status="failed", reason="start_timeout")
    keys.issue(member.team, name="old", expires_at=timezone.now() + timedelta(days=3))
    keys.issue(member.team, name="fine", expires_at=timezone.now() + timedelta(days=90))
    weights = Weights.objects.create(model=model, team=member.team, version=9, revision="x", format="gguf",
                                     status=WeightsStatus.FAILED, source="t")  # fmt: skip
    draft = Draft.objects.create(team=member.team, name="mine", status=Draft.Status.OPEN, created_by="a")
    Licence.objects.update(commercial_use=None)
    found = {one.title: one.where for one in client.get("/").context["home"].concerns}
    slug = member.team.slug
    assert found == {
        f"{slug}/mine has failed": f"/deployments/{row.pk}/",
        f"The licence of {slug}/mine has not been agreed to": f"/licences/agree/?model={model.slug}&use=internal",
        f"The weights of {model.name} failed": f"/weights/{weights.pk}",
        "The key old expires soon": "/keys/",
        "The upload mine is not finished": f"/weights/upload/{draft.pk}",
    }
    for where in found.values():
        assert client.get(where).status_code == 200, where
    (terms,) = stating.of_weights(Weights.objects.get(version=1))
    agreements.agree(member.team, terms, use="internal", model=model.slug, actor="a")
    assert not any("licence" in title for title in titles(client))
    LicenceText(licence=Licence.objects.get(), text="Other words.").save()
    assert f"The licence of {slug}/mine has changed" in titles(client)


def test_only_the_portals_staff_is_told_of_providers_without_a_key(client: Client, member: Membership) -> None:
    load_starter()
    assert titles(client) == []
    member.user.is_staff = True
    member.user.save()
    (title,) = titles(client)
    assert title.endswith("providers have no key")
    Provider.objects.exclude(slug="openai").update(sealed_key="x")
    assert titles(client) == ["1 provider has no key"]


@pytest.mark.parametrize("role", Role.values)
def test_nobody_is_led_where_their_role_does_not_go(client: Client, member: Membership, role: str) -> None:
    smollm2()
    Membership.objects.update(role=role)
    page = client.get("/")
    for step, may in page.context["steps"]:
        if may and step.where != "/playground/":
            answer: Any = client.get(step.where)
            assert answer.status_code == 200, step.text
    assert ("Deploy SmolLM2" in page.content.decode()) is (role in {"owner", "admin", "developer"})


def test_the_last_calls_are_shown_with_what_they_cost(client: Client, member: Membership) -> None:
    for number in range(8):
        RequestRecord.objects.create(
            team=member.team, at=datetime(2026, 11, 1, number, tzinfo=UTC), request_id=f"r{number}", asked=f"m{number}",
            api_key_name="k", surface="chat", path="hosted", status=200, tokens_in=1200, tokens_out=5,
            cost=Decimal("0.5"), total_ms=3,
        )  # fmt: skip
    MembershipFactory(team__slug="other")
    page = client.get("/")
    assert [one.asked for one in page.context["home"].calls] == ["m7", "m6", "m5", "m4", "m3", "m2"]
    assert "1,200 → 5" in page.content.decode()
