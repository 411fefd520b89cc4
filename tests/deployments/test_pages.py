"""The deployments' pages and API: scope, roles, bad input, two clicks."""

import json
import uuid
from typing import Any

import pytest
from django.test import Client

from accounts import keys
from accounts.models import Role
from catalog.models import Hardware
from deployments import operations
from deployments.lifecycle import Reason, Status
from deployments.models import Deployment
from deployments.templatetags.ages import lasting
from tests.factories.accounts import MembershipFactory, TeamFactory
from tests.factories.deployments import smollm2

pytestmark = pytest.mark.django_db
FORM = {
    "name": "mine", "hardware": "cpu-small", "min_replicas": "1", "idle_window_s": "600", "context_tokens": "2048",
    "slots": "4",
}  # fmt: skip


@pytest.fixture(autouse=True)
def model(db: None) -> None:
    smollm2()


def api(client: Client, key: str, method: str, path: str, body: Any = None) -> Any:
    return client.generic(
        method,
        f"/api/v1/deployments{path}",
        json.dumps(body or {}),
        content_type="application/json",
        headers={"authorization": f"Bearer {key}"},
    )


def test_two_clicks_on_deploy_make_one(client: Client) -> None:
    client.force_login(MembershipFactory().user)
    first = client.post("/deployments/new?model=smollm2-135m-instruct", FORM)
    second = client.post("/deployments/new?model=smollm2-135m-instruct", FORM)
    assert first.headers["location"] == second.headers["location"]
    assert Deployment.objects.count() == 1


@pytest.mark.parametrize("role", [Role.BILLING, Role.VIEWER])
def test_some_roles_may_look_but_not_deploy_or_stop(client: Client, role: Role) -> None:
    membership = MembershipFactory(role=role)
    client.force_login(membership.user)
    assert client.post("/deployments/new?model=smollm2-135m-instruct", FORM).status_code == 403
    model, hardware = smollm2()
    made = operations.deploy(membership.team, model=model, hardware=hardware, actor="t")
    assert client.get(f"/deployments/{made.pk}/").status_code == 200
    assert client.post(f"/deployments/{made.pk}/stop/").status_code == 403
    made.refresh_from_db()
    assert made.stop_asked_at is None


def test_another_teams_deployment_does_not_exist_on_any_route(client: Client) -> None:
    model, hardware = smollm2()
    theirs = operations.deploy(TeamFactory(), model=model, hardware=hardware, actor="t")
    membership = MembershipFactory()
    client.force_login(membership.user)
    _, key = keys.issue(membership.team, name="k")
    assert client.get(f"/deployments/{theirs.pk}/").status_code == 404
    assert client.post(f"/deployments/{theirs.pk}/stop/").status_code == 404
    for method, path in [("GET", ""), ("DELETE", ""), ("PATCH", ""), ("GET", "/events"), ("GET", "/logs")]:
        assert api(client, key, method, f"/{theirs.pk}{path}").status_code == 404


BAD: list[tuple[dict[str, Any], int, str]] = [
    ({}, 400, "model"),
    ({"model": "none", "hardware": "cpu-small"}, 400, "model"),
    ({"model": "smollm2-135m-instruct", "hardware": "none"}, 400, "hardware"),
    ({"model": "smollm2-135m-instruct", "hardware": "cpu-small", "name": "Bad Name"}, 400, "name"),
    ({"model": "smollm2-135m-instruct", "hardware": "cpu-small", "min_replicas": 7}, 400, "min_replicas"),
    ({"model": "smollm2-135m-instruct", "hardware": "cpu-small", "options": {"evil": 1}}, 400, "evil"),
    ({"model": "smollm2-135m-instruct", "hardware": "cpu-small", "options": {"slots": 0}}, 400, "slots"),
]


@pytest.mark.parametrize(("body", "status", "field"), BAD)
def test_a_bad_wish_is_told_by_field_and_starts_nothing(
    client: Client, body: dict[str, Any], status: int, field: str
) -> None:
    _, key = keys.issue(TeamFactory(), name="k")
    answer = api(client, key, "POST", "", body)
    assert answer.status_code == status, answer.content
    assert field in answer.json()["errors"]
    assert answer.headers["content-type"] == "application/problem+json"
    assert not Deployment.objects.exists()


def test_the_api_makes_changes_and_stops(client: Client) -> None:
    team = TeamFactory()
    _, key = keys.issue(team, name="k")
    made = api(client, key, "POST", "", {"model": "smollm2-135m-instruct", "hardware": "cpu-small", "name": "a"})
    assert (made.status_code, made.json()["endpoint_model"]) == (201, f"{team.slug}/a")
    again = api(client, key, "POST", "", {"model": "smollm2-135m-instruct", "hardware": "cpu-small", "name": "a"})
    assert again.status_code == 409
    path = f"/{made.json()['id']}"
    assert api(client, key, "PATCH", path, {"idle_window_s": 60}).json()["idle_window_s"] == 60
    assert api(client, key, "DELETE", path).status_code == 202
    assert api(client, key, "DELETE", path).status_code == 202
    assert api(client, key, "GET", path).json()["status"] == "stopping"
    assert api(client, key, "GET", f"/{uuid.uuid4()}").status_code == 404


def test_hardware_that_no_backend_offers_is_shown_with_the_reason(client: Client) -> None:
    Hardware.objects.create(slug="h100", name="One H100", memory_gib=80, gpus=1)
    client.force_login(MembershipFactory().user)
    page = client.get("/deployments/new?model=smollm2-135m-instruct").content.decode()
    assert "Not possible here: One H100" in page
    refused = client.post("/deployments/new?model=smollm2-135m-instruct", FORM | {"hardware": "h100"})
    assert refused.status_code == 400
    assert not Deployment.objects.exists()


def test_more_context_than_the_model_takes_is_told_at_the_field(client: Client) -> None:
    model, _ = smollm2()
    model.context_tokens = 8192
    model.save()
    client.force_login(MembershipFactory().user)
    page = client.post("/deployments/new?model=smollm2-135m-instruct", FORM | {"context_tokens": "10000"})
    assert page.status_code == 400
    assert "context_tokens takes a whole number from 256 to 8192" in page.content.decode()


def test_a_failed_one_can_be_started_again_by_those_who_may_deploy(client: Client) -> None:
    membership = MembershipFactory()
    client.force_login(membership.user)
    client.post("/deployments/new?model=smollm2-135m-instruct", FORM)
    deployment = Deployment.objects.get()
    Deployment.objects.update(status=Status.FAILED, reason=Reason.CRASH_LOOP)
    assert "Start again" in client.get(f"/deployments/{deployment.pk}/").content.decode()
    client.post(f"/deployments/{deployment.pk}/retry/")
    deployment.refresh_from_db()
    assert deployment.status == Status.PENDING


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (59, "59 s"), (192, "3 min 12 s"), (7500, "2 h 5 min")])
def test_a_length_of_time_is_told_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert lasting(seconds) == text
