"""Saved prompts: private until shared, never edited but followed by a version, and nobody else's to see."""

import json
from typing import Any

import pytest
from django.test import Client

from accounts.models import AuditEvent, Membership, Role
from playground.models import SavedPrompt
from tests.factories.accounts import MembershipFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def author(client: Client) -> Membership:
    member = MembershipFactory(role=Role.DEVELOPER)
    client.force_login(member.user)
    return member


def signed_in(member: Membership) -> Client:
    client = Client()
    client.force_login(member.user)
    return client


def saved(client: Client, *, onto: str = "", status: int = 0, **fields: Any) -> Any:
    given = {"name": "Support", "system": "Be kind.", "parameters": json.dumps({"temperature": 0.2}), **fields}
    url = f"/playground/prompts/{onto}/save" if onto else "/playground/prompts/save"
    answer = client.post(url, given)
    assert answer.status_code == (status or (200 if onto else 201)), answer.content
    return answer.json()


def test_a_prompt_opens_in_the_playground_as_it_was_saved(client: Client, author: Membership) -> None:
    made = saved(client, message="Hello", tried_with=json.dumps(["good"]))
    page = client.get(f"/playground/?prompt={made['id']}").context["page"]
    assert page["prompt"] == {
        "id": made["id"], "name": "Support", "number": 1, "system": "Be kind.", "message": "Hello",
        "parameters": {"temperature": 0.2},
    }  # fmt: skip


def test_saved_again_it_has_another_version_and_the_first_is_as_it_was(client: Client, author: Membership) -> None:
    made = saved(client)
    assert saved(client, onto=made["id"], system="Be kind and brief.")["number"] == 2
    assert saved(client, onto=made["id"], system="Be kind and brief.")["number"] == 2, "the same again is no version"
    page = client.get(f"/playground/prompts/{made['id']}/").content.decode()
    assert "+ Be kind and brief." in page
    assert "- Be kind." in page
    old = client.get(f"/playground/?prompt={made['id']}&version=1").context["page"]["prompt"]
    assert (old["number"], old["system"]) == (1, "Be kind.")
    client.post(f"/playground/prompts/{made['id']}/versions/1/restore")
    versions = SavedPrompt.objects.get().versions
    assert list(versions.values_list("number", "system")) == [
        (3, "Be kind."), (2, "Be kind and brief."), (1, "Be kind."),
    ]  # fmt: skip


def test_a_private_prompt_is_its_authors_alone(client: Client, author: Membership) -> None:
    made = saved(client)
    colleague = signed_in(MembershipFactory(team=author.team, role=Role.OWNER))
    path = f"/playground/prompts/{made['id']}/"
    assert colleague.get(path).status_code == 404
    assert "Support" not in colleague.get("/playground/prompts/").content.decode()
    assert colleague.get(f"/playground/?prompt={made['id']}").context["page"]["prompt"] is None
    assert colleague.post(f"{path}delete").status_code == 404
    assert not AuditEvent.objects.exists(), "what is private is in no trail that others read"


def test_a_shared_prompt_is_the_teams_and_no_other_teams(client: Client, author: Membership) -> None:
    made = saved(client, is_shared="on")
    path = f"/playground/prompts/{made['id']}/"
    colleague = signed_in(MembershipFactory(team=author.team, role=Role.DEVELOPER))
    assert "Support" in colleague.get("/playground/prompts/").content.decode()
    assert saved(colleague, onto=made["id"], system="Be quick.")["number"] == 2
    assert colleague.post(f"{path}delete").status_code == 403
    assert colleague.post(f"{path}change", {"shared": "no"}).status_code == 403
    stranger = signed_in(MembershipFactory())
    for answer in (stranger.get(path), stranger.post(f"{path}save"), stranger.post(f"{path}delete")):
        assert answer.status_code == 404
    assert "Support" not in stranger.get("/playground/prompts/").content.decode()
    verbs = list(AuditEvent.objects.order_by("pk").values_list("verb", flat=True))
    assert verbs == ["shared the prompt", "saved version 2 of the prompt"]


def test_its_author_and_who_keeps_the_team_may_take_it_back(client: Client, author: Membership) -> None:
    made = saved(client, is_shared="on")
    path = f"/playground/prompts/{made['id']}/"
    admin = signed_in(MembershipFactory(team=author.team, role=Role.ADMIN))
    assert admin.post(f"{path}change", {"name": "Help desk"}).status_code == 302
    assert SavedPrompt.objects.get().name == "Help desk"
    assert admin.post(f"{path}change", {"shared": "no"}).url == "/playground/prompts/"  # type: ignore[attr-defined]
    assert client.post(f"{path}delete").status_code == 302
    assert not SavedPrompt.objects.exists()


@pytest.mark.parametrize("role", [Role.VIEWER, Role.BILLING])
def test_who_may_not_call_reads_shared_prompts_and_saves_none(client: Client, author: Membership, role: Role) -> None:
    made = saved(client, is_shared="on")
    looker = signed_in(MembershipFactory(team=author.team, role=role))
    assert looker.get(f"/playground/prompts/{made['id']}/").status_code == 200
    saved(looker, status=403)
    saved(looker, onto=made["id"], status=403)
    assert looker.post(f"/playground/prompts/{made['id']}/versions/1/restore").status_code == 403


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"name": ""}, "Name"),
        ({"parameters": "{"}, "Parameters"),
        ({"parameters": '{"api_key": "sk-x"}'}, "Not parameters of a prompt: api_key"),
        ({"parameters": "{}", "system": ""}, "nothing in it"),
    ],
)
def test_what_is_no_prompt_is_refused_with_its_reason(
    client: Client, author: Membership, fields: dict[str, str], text: str
) -> None:
    assert text in saved(client, status=400, **fields)["message"]
    assert not SavedPrompt.objects.exists()


def test_markup_in_a_prompt_is_text(client: Client, author: Membership) -> None:
    made = saved(client, name="<b>x", system="</script><script>alert(1)</script>")
    for path in (f"/playground/prompts/{made['id']}/", f"/playground/?prompt={made['id']}", "/playground/prompts/"):
        assert "<script>alert" not in client.get(path).content.decode()
