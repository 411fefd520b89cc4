"""A secret goes to the engine's environment and nowhere else; an update changes it, a step back brings it back."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from celery.signals import before_task_publish
from django.apps import apps
from django.test import Client

from accounts import keys, sealing
from deployments import updating
from deployments.lifecycle import Status
from deployments.models import Deployment
from tests.deployments.portals import Portal
from tests.deployments.processes import pid_of, tagged
from tests.factories.accounts import MembershipFactory

pytestmark = pytest.mark.django_db(transaction=True)
CANARY, SECOND = "c4n4ry-in-the-mine", "c4n4ry-number-two"


@pytest.fixture
def sent_messages() -> Iterator[list[str]]:
    """What goes to the broker, as it is written there."""
    found: list[str] = []

    def note(body: object = None, headers: object = None, **_more: object) -> None:
        found.append(f"{body} {headers}")

    before_task_publish.connect(note, weak=False)
    yield found
    before_task_publish.disconnect(note)
    assert found, "nothing was sent at all"


def environment(portal: Portal, row: Deployment) -> dict[str, str]:
    name = portal.live(row)[0].name
    return psutil.Process(pid_of(portal.root, name, "engine")).environ()


def rows_as_text() -> str:
    """Every row of every table."""
    return "\n".join(str(list(model._default_manager.values())) for model in apps.get_models() if model._meta.managed)


def test_a_secret_is_in_the_engine_s_environment_and_nowhere_else(
    small_portal: Portal, client: Client, caplog: pytest.LogCaptureFixture, sent_messages: list[str]
) -> None:
    caplog.set_level(0)
    membership = MembershipFactory()
    _, key = keys.issue(membership.team, name="k")
    row = small_portal.awake("a", team=membership.team, env={"LEVEL": "3"}, secrets={"TOKEN": CANARY})
    assert environment(small_portal, row)["TOKEN"] == CANARY
    assert environment(small_portal, row)["LEVEL"] == "3"
    assert "SECRET_KEY" not in environment(small_portal, row)
    client.force_login(membership.user)
    bearer = {"authorization": f"Bearer {key}"}
    pages = ["", "settings/"]
    seen = [client.get(f"/deployments/{row.pk}/{page}").content.decode() for page in pages]
    paths = ["", "/versions", "/events", "/logs"]
    seen += [client.get(f"/api/v1/deployments/{row.pk}{path}", headers=bearer).content.decode() for path in paths]
    assert '"secrets":["TOKEN"]' in seen[2]
    assert "TOKEN" in seen[1]
    seen += [client.get("/deployments/").content.decode(), rows_as_text(), caplog.text, *sent_messages]
    seen += [" ".join(process.cmdline()) for process in tagged(small_portal.instance)]
    for folder, _, names in os.walk(small_portal.root):
        seen += [Path(folder, name).read_text(errors="replace") for name in names]
    assert len(seen) > 12
    assert not [text[:200] for text in seen if CANARY in text]


def test_an_update_sets_keeps_and_removes_and_a_step_back_restores(small_portal: Portal) -> None:
    row = small_portal.awake("a", env={"LEVEL": "3"}, secrets={"TOKEN": CANARY, "OTHER": "o"})
    assert updating.update(row, actor="t", env={"LEVEL": "3"}, secrets={"TOKEN": CANARY}) is None, "nothing changes"
    made = updating.update(row, actor="t", env={}, secrets={"TOKEN": SECOND, "OTHER": None})
    assert made
    assert made.secret_names == ["TOKEN"]
    small_portal.settle(row)
    assert row.status == Status.READY
    assert {name: environment(small_portal, row).get(name) for name in ("TOKEN", "OTHER", "LEVEL")} == {
        "TOKEN": SECOND, "OTHER": None, "LEVEL": None,
    }  # fmt: skip
    updating.rollback(row, actor="t")
    small_portal.settle(row)
    assert {name: environment(small_portal, row).get(name) for name in ("TOKEN", "OTHER", "LEVEL")} == {
        "TOKEN": CANARY, "OTHER": "o", "LEVEL": "3",
    }  # fmt: skip


def test_the_settings_page_keeps_replaces_and_removes_what_it_never_shows(small_portal: Portal, client: Client) -> None:
    membership = MembershipFactory()
    row = small_portal.awake("a", team=membership.team, secrets={"ONE": CANARY, "TWO": "t"})
    client.force_login(membership.user)
    page = client.get(f"/deployments/{row.pk}/settings/")
    form = page.context["form"]
    fields = {bound.html_name: bound.value() for bound in form if bound.value() is not None and bound.value() != ""}
    fields = {name: value for name, value in fields.items() if value is not False}
    assert (fields["secret_name_0"], fields["secret_name_1"]) == ("ONE", "TWO")
    assert client.post(f"/deployments/{row.pk}/settings/", fields).status_code == 302
    row.refresh_from_db()
    assert row.status == Status.READY, "nothing has changed: no new version"
    change = fields | {"secret_value_0": SECOND, "secret_remove_1": "on", "env": "A=1"}
    assert client.post(f"/deployments/{row.pk}/settings/", change).status_code == 302
    made = row.versions.first()
    assert made
    assert ({name: sealing.unseal(one) for name, one in made.sealed_secrets.items()}, made.env) == (
        {"ONE": SECOND}, {"A": "1"},
    )  # fmt: skip


def test_the_api_sets_and_removes(small_portal: Portal, client: Client) -> None:
    row = small_portal.awake("a", secrets={"ONE": CANARY, "TWO": "t"})
    _, key = keys.issue(row.team, name="k")
    answer = client.generic(
        "PATCH", f"/api/v1/deployments/{row.pk}", json.dumps({"secrets": {"TWO": None}, "env": {"A": "1"}}),
        content_type="application/json", headers={"authorization": f"Bearer {key}"},
    )  # fmt: skip
    assert (answer.status_code, answer.json()["next_version"]) == (200, 2)
    made = row.versions.first()
    assert made
    assert (made.secret_names, made.env) == (["ONE"], {"A": "1"})
