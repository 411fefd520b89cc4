"""What the audit trail says of changes above the accounts: values before and after, and none that opens anything."""

import json
from typing import Any

import pytest
from django.test import Client

from accounts.models import AuditEvent, Membership
from deployments import operations
from tests.factories.accounts import MembershipFactory
from tests.factories.deployments import smollm2


@pytest.fixture
def member(db: None, client: Client) -> Membership:
    found: Membership = MembershipFactory()
    client.force_login(found.user)
    return found


def event(verb: str) -> AuditEvent:
    return AuditEvent.objects.get(verb=verb)


def test_an_alias_says_what_stood_behind_it(client: Client, member: Membership) -> None:
    model, hardware = smollm2()
    names = [
        operations.deploy(member.team, model=model, hardware=hardware, name=name, actor="a").endpoint_model
        for name in ("one", "two")
    ]

    def send(method: str, path: str, target: str, **more: Any) -> Any:
        body = {"name": "chat", "targets": [{"model": target, **more}]}
        return client.generic(method, f"/api/v1/aliases{path}", json.dumps(body), content_type="application/json")

    pk = send("POST", "", names[0]).json()["id"]
    assert event("set the alias").before == {}
    AuditEvent.objects.filter(verb="set the alias").delete()
    assert send("PUT", f"/{pk}", names[1], weight=3).status_code == 200
    changed = event("set the alias")
    assert (changed.before, changed.after) == (
        {"targets": [f"{names[0]} (position 0, weight 1)"]}, {"targets": [f"{names[1]} (position 0, weight 3)"]},
    )  # fmt: skip
    assert send("DELETE", f"/{pk}", names[0]).status_code == 204
    assert event("deleted the alias").before["name"] == "chat"


def test_a_deployment_says_what_runs_and_of_its_environment_the_names_alone(member: Membership) -> None:
    model, hardware = smollm2()
    operations.deploy(
        member.team, model=model, hardware=hardware, name="one", actor="a", max_replicas=3,
        env={"SHOWN": "not-for-the-trail"}, secrets={"HIDDEN": "s3cr3t-value"},
    )  # fmt: skip
    after = event("deployed").after
    assert (after["hardware"], after["max_replicas"], after["use"]) == ("cpu-small", 3, "internal")
    assert after["environment"] == ["HIDDEN", "SHOWN"]
    assert "slots 4" in after["options"]
    assert not any(value in json.dumps(after) for value in ("not-for-the-trail", "s3cr3t-value"))


def test_of_a_webhook_the_trail_has_the_host_alone(client: Client, member: Membership) -> None:
    form = {"emails": "a@example.com", "webhook_url": "https://93.184.215.14/hooks/T0KEN?key=VALUE"}
    assert client.post("/budgets/alerts/", form).status_code == 200
    said = event("changed the alerts")
    assert said.after == {"emails": ["a@example.com"], "webhook": "93.184.215.14"}
    assert client.post("/budgets/alerts/", form | {"emails": ""}).status_code == 302
    assert AuditEvent.objects.filter(verb="changed the alerts").latest("pk").before == {"emails": ["a@example.com"]}
