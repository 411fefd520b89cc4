"""The chat page: who may see it, what it lists, and what it refuses."""

import json
from decimal import Decimal

import pytest
from django.test import Client
from pytest_django.fixtures import DjangoAssertNumQueries

from accounts.models import Membership, Role
from billing import budgets
from catalog.models import Hardware, Model
from deployments import operations
from deployments.models import Deployment
from gateway.models import Alias, AliasTarget
from playground import prompts
from playground.models import SentAnswer
from playground.prompts import Content
from tests.factories.accounts import MembershipFactory
from tests.factories.catalog import load_starter

pytestmark = pytest.mark.django_db


@pytest.fixture
def starter(db: None) -> None:
    load_starter()


@pytest.fixture
def member(client: Client) -> Membership:
    member = MembershipFactory()
    client.force_login(member.user)
    return member


def names(client: Client, query: str) -> dict[str, dict[str, object]]:
    found = client.get(f"/playground/models?{query}").json()["choices"]
    return {one["name"]: one for one in found}


@pytest.mark.usefixtures("starter")
def test_what_can_be_called_is_found_first_and_the_rest_says_why_not(client: Client, member: Membership) -> None:
    page = client.get("/playground/?model=smollm2-135m-instruct&model=nobody/knows-it").context["page"]
    assert [one["name"] for one in page["chosen"]] == ["smollm2-135m-instruct"]
    found = list(names(client, "q=").values())
    assert found[0]["name"] == "smollm2-135m-instruct"
    assert found[0]["why_not"] == ""
    claude = names(client, "q=claude opus")["claude-opus-4.7"]
    assert "No key for Anthropic" in str(claude["why_not"])
    assert claude["sees_images"]
    assert "seed" in claude["refuses"]  # type: ignore[operator]


def test_a_teams_alias_is_found_by_its_team_alone(client: Client, member: Membership) -> None:
    alias = Alias.objects.create(team=member.team, name="chat-main")
    AliasTarget.objects.create(alias=alias, model="smollm2-135m-instruct")
    assert str(alias) in names(client, "q=chat-main")
    assert str(alias) in names(client, f"name={alias}")
    stranger = Client()
    stranger.force_login(MembershipFactory().user)
    assert names(stranger, "q=chat-main") == names(stranger, f"name={alias}") == {}


@pytest.mark.usefixtures("starter")
def test_the_page_asks_the_database_a_bounded_number_of_times(
    client: Client, member: Membership, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    content = Content(system="Be kind.", tried_with=["smollm2-135m-instruct"])
    prompt = prompts.create(member, name="Support", is_shared=True, content=content)
    budgets.set_monthly(member.team, Decimal(5))
    alias = Alias.objects.create(team=member.team, name="chat-main")
    AliasTarget.objects.create(alias=alias, model="smollm2-135m-instruct")
    model, hardware = Model.objects.get(slug="smollm2-135m-instruct"), Hardware.objects.get(slug="cpu-small")
    operations.deploy(member.team, model=model, hardware=hardware, actor="t", name="mine")
    with django_assert_max_num_queries(12):
        page = client.get(f"/playground/?prompt={prompt.pk}")
    assert page.context["page"]["prompt"]["system"] == "Be kind."
    assert len(page.content) < 150_000


@pytest.mark.usefixtures("starter")
def test_a_deployment_is_given_pictures_only_where_its_engine_reads_them(client: Client, member: Membership) -> None:
    Model.objects.filter(slug="smollm2-135m-instruct").update(modalities=["text", "image"])
    model, hardware = Model.objects.get(slug="smollm2-135m-instruct"), Hardware.objects.get(slug="cpu-small")
    operations.deploy(member.team, model=model, hardware=hardware, actor="t", name="mine")
    (mine,) = names(client, f"name={member.team.slug}/mine").values()
    assert mine["sees_images"] is False
    Deployment.objects.update(engine="vllm")
    (mine,) = names(client, f"name={member.team.slug}/mine").values()
    assert mine["sees_images"] is True


def test_an_answer_needs_a_session_and_its_csrf_token() -> None:
    body = json.dumps({"model": "smollm2-135m-instruct", "messages": [{"role": "user", "content": "x"}]})
    client = Client()
    assert client.post("/playground/answer", body, content_type="application/json").status_code == 401
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(MembershipFactory().user)
    assert strict.post("/playground/answer", body, content_type="application/json").status_code == 403


def test_a_page_of_another_team_than_the_browsers_bills_nobody(client: Client, member: Membership) -> None:
    other = MembershipFactory(user=member.user)
    body = {"model": "smollm2-135m-instruct", "messages": [{"role": "user", "content": "x"}]}
    answer = client.post(
        "/playground/answer", body, content_type="application/json", headers={"x-team": str(other.team_id)}
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "other_team")
    assert not SentAnswer.objects.exists()


@pytest.mark.parametrize("role", [Role.VIEWER, Role.BILLING])
def test_who_may_not_call_sees_the_page_and_why(client: Client, role: Role) -> None:
    client.force_login(MembershipFactory(role=role).user)
    page = client.get("/playground/").content.decode()
    assert f"Your role in this team, {role.value}, may look at the playground, not call models." in page
    answer = client.post("/playground/answer", "{}", content_type="application/json")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_allowed")
    assert client.post("/playground/ask", {"model": "good", "message": "x"}).status_code == 403
    assert not SentAnswer.objects.exists()


@pytest.mark.parametrize(
    ("form", "reason"),
    [({"message": " "}, "Write a message first."), ({"message": "x", "max_tokens": "many"}, "Max tokens is a number")],
)
def test_a_bad_form_is_answered_with_its_reason(
    client: Client, member: Membership, form: dict[str, str], reason: str
) -> None:
    page = client.post("/playground/ask", {"model": "good", **form})
    assert (page.status_code, reason in page.content.decode()) == (400, True)


def test_a_bad_body_has_openais_error_shape_and_plain_words(client: Client, member: Membership) -> None:
    answer = client.post("/playground/answer", "{", content_type="application/json")
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.json()["problem"]["title"] == "It was refused"


def test_what_is_too_large_is_refused_before_it_is_read(client: Client, member: Membership, settings: object) -> None:
    settings.GATEWAY_LARGEST_BODY = 100  # type: ignore[attr-defined]
    body = json.dumps({"model": "x", "messages": [{"role": "user", "content": "x" * 200}]})
    assert client.post("/playground/answer", body, content_type="application/json").status_code == 413


def test_a_schema_is_checked_as_one(client: Client, member: Membership) -> None:
    body = {"schemas": [{"type": "object"}, {"type": "nonsense"}]}
    good, bad = client.post("/playground/check", body, content_type="application/json").json()["problems"]
    assert good == ""
    assert "nonsense" in bad
    assert client.post("/playground/check", "[", content_type="application/json").status_code == 400
