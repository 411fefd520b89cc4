"""The chat page: who may see it, what it lists, and what it refuses. Streaming is the browser journey's."""

import json

import pytest
from django.test import Client

from accounts.models import Role
from tests.factories.accounts import MembershipFactory
from tests.factories.catalog import load_starter

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def starter(transactional_db: None) -> None:
    load_starter()


def test_it_lists_what_can_be_called_and_mutes_what_cannot(client: Client) -> None:
    client.force_login(MembershipFactory().user)
    page = client.get("/playground/?model=smollm2-135m-instruct").content.decode()
    assert 'value="smollm2-135m-instruct" data-path="hosted" selected' in " ".join(page.split())
    assert "Claude Opus 4.7 (Anthropic)" in page


def test_an_answer_needs_a_session_and_its_csrf_token() -> None:
    body = json.dumps({"model": "smollm2-135m-instruct", "messages": [{"role": "user", "content": "x"}]})
    client = Client()
    assert client.post("/playground/answer", body, content_type="application/json").status_code == 401
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(MembershipFactory().user)
    assert strict.post("/playground/answer", body, content_type="application/json").status_code == 403


def test_a_viewer_may_look_not_call(client: Client) -> None:
    client.force_login(MembershipFactory(role=Role.VIEWER).user)
    assert client.get("/playground/").status_code == 200
    answer = client.post("/playground/answer", "{}", content_type="application/json")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_allowed")


def test_a_bad_body_has_openais_error_shape(client: Client) -> None:
    client.force_login(MembershipFactory().user)
    answer = client.post("/playground/answer", "{", content_type="application/json")
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
