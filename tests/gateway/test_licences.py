"""The licence gate: what is denied or not agreed to is refused in the browser and to programs, and nothing happens."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.test import Client

from accounts import keys
from accounts.models import Membership, Role
from billing.models import Reservation, UsageEvent
from catalog.licensing import agreements, stating
from catalog.licensing.models import LicenceAgreement, LicenceText
from catalog.models import Licence, Model
from deployments import operations
from deployments.models import Deployment, Replica
from gateway.models import Alias, AliasTarget
from tests.factories.accounts import MembershipFactory, TeamFactory
from tests.factories.deployments import own_weights, smollm2
from tests.gateway.conftest import Gateway

ASK: list[Any] = [{"role": "user", "content": "Count to three."}]
DEPLOY = "/deployments/new?model=smollm2-135m-instruct"
AGREE = "/licences/agree/?model=smollm2-135m-instruct&use=internal"
WISH = {"model": "smollm2-135m-instruct", "hardware": "cpu-small"}


@pytest.fixture
def member(db: None, client: Client) -> Membership:
    """In a team that sees SmolLM2 under a licence with conditions."""
    smollm2()
    Licence.objects.update(name="Llama Community", commercial_use=None, note="Below 700 million users.")
    found: Membership = MembershipFactory()
    client.force_login(found.user)
    return found


def send(client: Client, key: str, method: str, path: str, body: Any = None) -> Any:
    return client.generic(
        method, f"/api/v1/{path}", json.dumps(body) if body else "", content_type="application/json",
        headers={"authorization": f"Bearer {key}"},
    )  # fmt: skip


def nothing_was_made() -> bool:
    made = (Deployment, Replica, Reservation, UsageEvent)
    return not any(table.objects.exists() for table in made)  # type: ignore[attr-defined]


def test_a_deployment_is_refused_until_somebody_agrees_and_then_it_is_made(client: Client, member: Membership) -> None:
    refused = client.post(DEPLOY, {"hardware": "cpu-small"})
    assert refused.status_code == 400
    assert "Agree to the licence first" in refused.content.decode()
    assert nothing_was_made()
    assert not LicenceAgreement.objects.exists()
    (shown,) = refused.context["licences"]
    assert client.post(DEPLOY, {"hardware": "cpu-small", "agree": shown.key}).status_code == 302
    row = LicenceAgreement.objects.get()
    assert (row.team, row.agreed_by, row.use) == (member.team, member.user.email, "internal")
    assert row.text_sha256 == shown.terms.sha256
    assert agreements.policy_of(member.team.pk).uses == {Deployment.objects.get().endpoint_model: "internal"}
    assert client.post(DEPLOY, {"hardware": "cpu-small"}).status_code == 302  # once is enough


def test_a_tick_for_another_use_or_another_text_is_no_agreement(client: Client, member: Membership) -> None:
    (shown,) = client.get(DEPLOY).context["licences"]
    LicenceText(licence=Licence.objects.get(), text="Now there is a text.").save()
    assert client.post(DEPLOY, {"hardware": "cpu-small", "agree": shown.key}).status_code == 400
    (shown,) = client.get(DEPLOY).context["licences"]
    assert client.post(DEPLOY, {"hardware": "cpu-small", "use": "resale", "agree": shown.key}).status_code == 400
    assert nothing_was_made()
    assert not LicenceAgreement.objects.exists()


def test_a_dry_run_agrees_to_nothing_and_says_what_is_missing(client: Client, member: Membership) -> None:
    (shown,) = client.get(DEPLOY).context["licences"]
    page = client.post(DEPLOY, {"hardware": "cpu-small", "agree": shown.key, "dry_run": "1"})
    assert [field for field, _ in page.context["plan"].refused] == ["licence"]
    assert not LicenceAgreement.objects.exists()


def test_the_api_refuses_with_the_licence_the_policy_and_where_to_agree(client: Client, member: Membership) -> None:
    _, key = keys.issue(member.team, name="k")
    refused = send(client, key, "POST", "deployments", WISH)
    assert (refused.status_code, refused["content-type"]) == (403, "application/problem+json")
    problem = refused.json()
    assert (problem["code"], problem["policy"], problem["licence"]) == ("licence_not_agreed", "ask", "apache-2-0")
    assert problem["agree_at"].endswith(AGREE)
    assert nothing_was_made()
    (terms,) = send(client, key, "GET", "licences?model=smollm2-135m-instruct").json()
    assert (terms["allowed"], terms["text_sha256"]) == (False, problem["text_sha256"])
    body = {"model": WISH["model"], "licence": "apache-2-0", "use": "internal", "text_sha256": terms["text_sha256"]}
    assert send(client, key, "POST", "licences/agreements", body | {"text_sha256": "0" * 64}).status_code == 409
    assert send(client, key, "POST", "licences/agreements", body).status_code == 201
    assert send(client, key, "POST", "deployments", WISH).status_code == 201
    assert [row["licence_name"] for row in send(client, key, "GET", "licences/agreements").json()["results"]] == [
        "Llama Community"
    ]


def test_what_is_denied_can_not_be_agreed_to(client: Client, member: Membership) -> None:
    agreements.set_rules(member.team, {("apache-2-0", "product"): "deny"}, actor="a")
    _, key = keys.issue(member.team, name="k")
    problem = send(client, key, "POST", "deployments", WISH | {"use": "product"})
    assert (problem.status_code, problem.json()["code"]) == (403, "licence_denied")
    page = client.post(DEPLOY, {"hardware": "cpu-small", "use": "product"})
    assert page.status_code == 400
    assert "denies it for product use" in page.content.decode()
    terms = problem.json()
    body = {"model": WISH["model"], "licence": "apache-2-0", "use": "product", "text_sha256": terms["text_sha256"]}
    assert send(client, key, "POST", "licences/agreements", body).status_code == 400
    assert nothing_was_made()
    assert not LicenceAgreement.objects.exists()


def test_a_changed_licence_asks_again_and_anothers_agreement_is_not_mine(client: Client, member: Membership) -> None:
    terms = stating.all_of(Model.objects.get())
    agreements.agree(TeamFactory(), terms[0], use="internal", model="m", actor="somebody else")
    assert client.post(DEPLOY, {"hardware": "cpu-small"}).status_code == 400
    agreements.agree(member.team, terms[0], use="internal", model="m", actor="a")
    assert client.post(DEPLOY, {"hardware": "cpu-small"}).status_code == 302
    Licence.objects.update(note="Below 70 users.")
    page = client.post(DEPLOY, {"hardware": "cpu-small"})
    assert page.status_code == 400
    assert "has changed since the team agreed" in page.content.decode()
    assert Deployment.objects.count() == 1


def test_an_update_to_weights_under_another_licence_asks(client: Client, member: Membership) -> None:
    agreements.agree(member.team, stating.all_of(Model.objects.get())[0], use="internal", model="m", actor="a")
    client.post(DEPLOY, {"hardware": "cpu-small"})
    row = Deployment.objects.get()
    Deployment.objects.update(status="asleep")
    row.weights.licence = Licence.objects.create(slug="nc", name="NC 4.0", commercial_use=False)
    row.weights.save()
    _, key = keys.issue(member.team, name="k")
    answer = send(client, key, "PATCH", f"deployments/{row.pk}", {"options": {"context_tokens": 512}})
    assert (answer.status_code, answer.json()["licence"]) == (403, "nc")
    assert row.versions.count() == 1


def two_versions(member: Membership) -> Deployment:
    """Asleep in its second version; the first has taken calls."""
    agreements.agree(member.team, stating.all_of(Model.objects.get())[0], use="internal", model="m", actor="a")
    model, hardware = smollm2()
    row = operations.deploy(member.team, model=model, hardware=hardware, name="mine", actor="a")
    first = row.versions.get()
    second = row.versions.create(number=2, weights=row.weights, hardware=hardware, engine=row.engine, options={})
    row.versions.update(served_at=first.created_at)
    Deployment.objects.update(status="asleep", version=second)
    row.refresh_from_db()
    return row


def test_a_step_back_to_what_was_denied_since_is_refused(client: Client, member: Membership) -> None:
    row = two_versions(member)
    _, key = keys.issue(member.team, name="k")
    agreements.set_rules(member.team, {("apache-2-0", "internal"): "deny"}, actor="a")
    problem = send(client, key, "POST", f"deployments/{row.pk}/rollback")
    assert (problem.status_code, problem.json()["code"]) == (403, "licence_denied")
    page = client.post(f"/deployments/{row.pk}/rollback/", {"version": "1"}, follow=True)
    assert "denies that for internal use" in page.content.decode()
    row.refresh_from_db()
    assert (row.status, row.next_version) == ("asleep", None)
    agreements.set_rules(member.team, {("apache-2-0", "internal"): "allow"}, actor="a")
    assert send(client, key, "POST", f"deployments/{row.pk}/rollback").status_code == 202


def test_what_failed_and_was_denied_since_is_not_started_again(client: Client, member: Membership) -> None:
    row = two_versions(member)
    Deployment.objects.update(status="failed")
    agreements.set_rules(member.team, {("apache-2-0", "internal"): "deny"}, actor="a")
    for page in (f"/deployments/{row.pk}/retry/", f"/deployments/{row.pk}/next-step/"):
        shown = client.post(page, {"step": "retry"}, follow=True).content.decode()
        assert "denies that for internal use" in shown
    row.refresh_from_db()
    assert row.status == "failed"


def test_an_adapter_that_joins_is_asked_about_and_its_own_page_is_where(
    client: Client, member: Membership, tmp_path: Path
) -> None:
    row = two_versions(member)
    lora = own_weights(member.team, tmp_path / "lora", {"l.gguf": b"GGUF"}, base=row.weights)
    lora.licence = Licence.objects.create(slug="lora-terms", name="LoRA terms", commercial_use=None)
    lora.save()
    _, key = keys.issue(member.team, name="k")
    refused = send(client, key, "PATCH", f"deployments/{row.pk}", {"adapters": [str(lora.pk)]})
    problem = refused.json()
    assert (refused.status_code, problem["code"], problem["licence"]) == (403, "licence_not_agreed", "lora-terms")
    agree_at = problem["agree_at"][problem["agree_at"].index("/licences/agree/") :]
    shown = [one for one in client.get(agree_at).context["licences"] if one.asks]
    assert [one.terms.licence for one in shown] == ["lora-terms"]
    wish = WISH | {"adapters": [str(lora.pk)], "name": "other"}
    assert send(client, key, "POST", "deployments", wish).json()["licence"] == "lora-terms"
    client.post(agree_at, {"agree": shown[0].key})
    accepted = send(client, key, "PATCH", f"deployments/{row.pk}", {"adapters": [str(lora.pk)]})
    assert (accepted.status_code, accepted.json()["status"]) == (200, "updating")


def test_the_agree_page_takes_what_it_shows(client: Client, member: Membership) -> None:
    page = client.get(AGREE)
    (shown,) = page.context["licences"]
    assert shown.asks
    assert "Below 700 million users." in page.content.decode()
    answer = client.post(AGREE, {"agree": shown.key})
    assert not answer.context["licences"][0].asks
    assert LicenceAgreement.objects.get().agreed_by == member.user.email
    client.post(AGREE, {"agree": shown.key[:-1] + "x"})
    assert LicenceAgreement.objects.count() == 1


@pytest.mark.parametrize("role", Role.values)
def test_who_may_agree_and_who_may_change_the_policy(client: Client, member: Membership, role: str) -> None:
    Membership.objects.update(role=role)
    (shown,) = client.get(AGREE).context["licences"]
    agreed = client.post(AGREE, {"agree": shown.key})
    assert (agreed.status_code == 200) is (role in {"owner", "admin", "developer"})
    assert LicenceAgreement.objects.exists() is (agreed.status_code == 200)
    assert client.get("/licences/").status_code == 200
    form = {"default_use": "product", "rule|kind:unknown|resale": "deny", f"use|{member.team.slug}/x": "internal"}
    saved = client.post("/licences/", form)
    assert (saved.status_code == 302) is (role in {"owner", "admin"})
    found = agreements.policy_of(member.team.pk)
    assert (found.default_use == "product") is (saved.status_code == 302)
    assert ("kind:unknown", "resale") in found.rules or saved.status_code == 403
    patched = client.patch("/api/v1/licences/policy", {"default_use": "resale"}, content_type="application/json")
    assert (patched.status_code == 200) is (role in {"owner", "admin"})


def test_the_policy_page_lists_what_differs_first_and_no_more_than_fit(client: Client, member: Membership) -> None:
    Alias.objects.bulk_create(Alias(team=member.team, name=f"a-{number:02}") for number in range(60))
    last = f"{member.team.slug}/a-59"
    client.post("/licences/", {"default_use": "internal", "other_name": last, "other_use": "resale"})
    page = client.get("/licences/")
    assert page.context["names"][0] == (last, "resale")
    assert (len(page.context["names"]), page.context["more"]) == (50, 10)
    assert "10 more names are not shown" in page.content.decode()


def test_a_policy_of_what_does_not_exist_changes_nothing(client: Client, member: Membership) -> None:
    for form in (
        {"default_use": "product", "rule|no-such|resale": "deny"},
        {"default_use": "product", "rule|kind:unknown|resale": "perhaps"},
        {"default_use": "product", "other_name": "no-such-model", "other_use": "resale"},
        {"default_use": "art"},
        {"default_use": "product", "use|x\0": "resale"},
    ):
        assert client.post("/licences/", form).status_code == 400
    assert agreements.policy_of(member.team.pk).default_use == "internal"
    _, key = keys.issue(member.team, name="k")
    assert send(client, key, "PATCH", "licences/policy", {"default_use": "resale"}).status_code == 403


def test_odd_names_are_not_found_and_no_failure(client: Client, member: Membership) -> None:
    _, key = keys.issue(member.team, name="k")
    for odd in ("%00", "x" * 300, "", "%ff"):
        assert client.get(f"/licences/agree/?model={odd}").status_code == 404
        assert send(client, key, "GET", f"licences?model={odd}").status_code == 400
    assert send(client, key, "GET", "licences?model=smollm2-135m-instruct&use=art").status_code == 400


def test_another_teams_own_model_has_no_agree_page(client: Client, member: Membership) -> None:
    Model.objects.update(team=TeamFactory())
    assert client.get(AGREE).status_code == 404


# --- calls


def open_weight(slug: str, licence: Licence) -> None:
    Model.objects.filter(slug=slug).update(openness="open-weight", licence=licence)


def call(gateway: Gateway, model: str, **more: Any) -> httpx.Response:
    body = {"model": model, "messages": ASK, "max_tokens": 5} | more
    return httpx.post(f"{gateway.url}/v1/chat/completions", headers=gateway.headers, json=body, timeout=30)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.django_db(transaction=True)
def test_a_call_is_refused_before_the_provider_until_the_team_agrees(gateway: Gateway, stream: bool) -> None:
    llama = Licence.objects.create(slug="llama", name="Llama Community")
    open_weight("good", llama)
    refused = call(gateway, "good", stream=stream)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (403, "licence_not_agreed", "model")
    assert "Llama Community" in error["message"]
    assert "/licences/agree/?model=good&use=internal" in error["message"]
    assert call(gateway, "good", stream=stream).status_code == 403  # also from what is remembered
    assert (gateway.provider.calls, Reservation.objects.count(), UsageEvent.objects.count()) == ([], 0, 0)
    (terms,) = stating.all_of(Model.objects.get(slug="good"))
    agreements.agree(gateway.team, terms, use="internal", model="good", actor="a")
    assert call(gateway, "good", stream=stream).status_code == 200  # at once, whatever is remembered


@pytest.mark.django_db(transaction=True)
def test_messages_are_refused_in_anthropics_words_and_an_alias_goes_on(gateway: Gateway) -> None:
    open_weight("c-good", Licence.objects.create(slug="nc", name="NC 4.0", commercial_use=False))
    agreements.set_default_use(gateway.team, "product", actor="a")
    row = Alias.objects.create(team=gateway.team, name="main")
    for position, model in enumerate(["c-good", "good"]):
        AliasTarget.objects.create(alias=row, model=model, position=position)
    body = {"model": "c-good", "messages": ASK, "max_tokens": 5}
    refused = httpx.post(f"{gateway.url}/v1/messages", headers=gateway.headers, json=body, timeout=30)
    assert (refused.status_code, refused.json()["error"]["type"]) == (403, "permission_error")
    assert "denies that for product use" in refused.json()["error"]["message"]
    url = f"{gateway.url}/v1/messages/count_tokens"
    counted = httpx.post(url, headers=gateway.headers, json={"model": "c-good", "messages": ASK}, timeout=30)
    assert counted.status_code == 403
    answer = call(gateway, str(row))
    assert (answer.status_code, answer.headers["x-modelport-model"]) == (200, "good")
    assert (len(gateway.claude.calls), UsageEvent.objects.count()) == (0, 1)


@pytest.mark.django_db(transaction=True)
def test_an_alias_has_a_use_of_its_own(gateway: Gateway) -> None:
    open_weight("good", Licence.objects.create(slug="nc", name="NC 4.0", commercial_use=False))
    (terms,) = stating.all_of(Model.objects.get(slug="good"))
    agreements.agree(gateway.team, terms, use="internal", model="good", actor="a")
    row = Alias.objects.create(team=gateway.team, name="shop")
    AliasTarget.objects.create(alias=row, model="good")
    agreements.set_use(gateway.team, str(row), "product", actor="a")
    assert call(gateway, "good").status_code == 200
    assert call(gateway, str(row)).json()["error"]["code"] == "licence_denied"


@pytest.mark.django_db(transaction=True)
def test_a_sleeper_whose_licence_was_denied_since_is_not_woken(gateway: Gateway) -> None:
    model, hardware = smollm2()
    row = operations.deploy(gateway.team, model=model, hardware=hardware, name="mine", actor="a")
    Deployment.objects.update(status="asleep")
    agreements.set_rules(gateway.team, {("apache-2-0", "internal"): "deny"}, actor="a")
    assert call(gateway, f"{gateway.team.slug}/mine").json()["error"]["code"] == "licence_denied"
    row.refresh_from_db()
    assert row.status == "asleep"
    assert not Reservation.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_call_asks_for_the_licences_of_the_adapters_that_run(gateway: Gateway, tmp_path: Path) -> None:
    model, hardware = smollm2()
    row = operations.deploy(gateway.team, model=model, hardware=hardware, name="mine", actor="a")
    lora = own_weights(gateway.team, tmp_path / "lora", {"l.gguf": b"GGUF"}, base=row.weights)
    lora.licence = Licence.objects.create(slug="lora-terms", name="LoRA terms", commercial_use=None)
    lora.save()
    assert row.version
    row.version.adapters.create(weights=lora)
    Deployment.objects.update(status="asleep")
    error = call(gateway, f"{gateway.team.slug}/mine").json()["error"]
    assert error["code"] == "licence_not_agreed"
    assert f"/licences/agree/?model={lora.model.slug}&use=internal" in error["message"]
    row.refresh_from_db()
    assert row.status == "asleep"
    assert not Reservation.objects.exists()
