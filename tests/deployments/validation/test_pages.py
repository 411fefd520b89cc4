"""Prompt sets, runs and reports by pages and API: who may, and nobody else's."""

import json
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from accounts import keys
from accounts.models import Membership, Role
from deployments.models import Deployment, PromptSet, ValidationPlan, ValidationRun
from deployments.validation import running, wishes
from tests.deployments.portals import Portal
from tests.deployments.validation.conftest import MakeSet, contains
from tests.factories.accounts import MembershipFactory
from tests.gateway.engine import deployed

pytestmark = pytest.mark.django_db(transaction=True)

CASES = [{"prompt": "Say hello.", "checks": [{"kind": "regex", "value": "(?i)hello"}]}]


@pytest.fixture
def membership(client: Client) -> Membership:
    found: Membership = MembershipFactory()
    client.force_login(found.user)
    return found


@pytest.fixture
def row(membership: Membership) -> Deployment:
    return deployed(membership.team, "http://127.0.0.1:9")


def form(*cases: dict[str, str], **more: str) -> dict[str, str]:
    """As the editor posts it; each case says its checks as kind=value."""
    told = {"name": "smoke", "note": "", "cases": str(len(cases))} | more
    for place, case in enumerate(cases):
        told |= {f"case-{place}-{name}": value for name, value in case.items()}
    return told


ONE_CHECK = {"prompt": "Say hello.", "checks": "1", "check-0-kind": "contains", "check-0-value": "hello"}


@pytest.mark.parametrize("field", ["messages", "parameters"])
@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 5000, '["\\ud800"]', "{"])
def test_what_is_no_json_is_told_beside_its_field(
    client: Client, membership: Membership, field: str, text: str
) -> None:
    page = client.post("/deployments/prompt-sets/new/", form(ONE_CHECK | {field: text}))
    assert page.status_code == 400
    assert "Enter a valid JSON." in page.content.decode()


@pytest.mark.parametrize("odd", ["check-\u00b2", "check-9", "check-", "check-" + "1" * 5000, "case-1", "x"])
def test_more_rows_are_asked_for_by_a_place_that_is_there(client: Client, membership: Membership, odd: str) -> None:
    assert client.post("/deployments/prompt-sets/new/", form(ONE_CHECK, add=odd)).status_code == 200


def test_a_set_is_written_without_javascript_row_by_row(client: Client, membership: Membership) -> None:
    assert "Write the first one" in client.get("/deployments/prompt-sets/").content.decode()
    page = client.get("/deployments/prompt-sets/new/")
    assert 'name="case-0-check-0-kind"' in page.content.decode()
    more = client.post("/deployments/prompt-sets/new/", form(ONE_CHECK, add="check-0"))
    assert more.status_code == 200
    assert "Say hello." in more.content.decode(), "what was written stays"
    assert 'name="case-0-check-1-kind"' in more.content.decode()
    more = client.post("/deployments/prompt-sets/new/", form(ONE_CHECK, add="case"))
    assert 'name="case-1-prompt"' in more.content.decode()
    assert not PromptSet.objects.exists()
    done = client.post("/deployments/prompt-sets/new/", form(ONE_CHECK, {"prompt": "", "checks": "1"}))
    made = PromptSet.objects.get()
    assert done.url == f"/deployments/prompt-sets/{made.pk}/"
    assert made.edition.cases == [{"prompt": "Say hello.", "checks": [{"kind": "contains", "value": "hello"}]}], (
        "an empty case is left out"
    )
    twice = client.post("/deployments/prompt-sets/new/", form(ONE_CHECK))
    assert twice.status_code == 400
    assert "has a prompt set named smoke" in twice.content.decode()
    client.post(done.url, form(ONE_CHECK | {"max_tokens": "9", "parameters": '{"seed": 1}'}))
    assert made.edition.number == 2
    assert made.edition.cases[0]["parameters"] == {"seed": 1, "max_tokens": 9}
    assert 'value="9"' in client.get(done.url).content.decode()


BAD = [
    (ONE_CHECK | {"check-0-kind": "regex", "check-0-value": "("}, "not a regular expression"),
    (ONE_CHECK | {"check-0-kind": "json_schema", "check-0-value": '{"type": 7}'}, "not a JSON schema"),
    (ONE_CHECK | {"check-0-kind": "same_as"}, "names the model to ask"),
    (ONE_CHECK | {"checks": "0"}, "1 to 8 checks"),
    (ONE_CHECK | {"prompt": ""}, "needs a prompt"),
    (ONE_CHECK | {"messages": "{"}, "valid JSON"),
    (ONE_CHECK | {"messages": '[{"role": "user"}]', "prompt": ""}, "has to be text"),
    ({"prompt": "", "checks": "0"}, "1 to 100 cases"),
]


@pytest.mark.parametrize(("case", "says"), BAD)
def test_what_is_wrong_is_said_at_its_place(
    client: Client, membership: Membership, case: dict[str, str], says: str
) -> None:
    done = client.post("/deployments/prompt-sets/new/", form(case))
    assert done.status_code == 400
    assert says in done.content.decode()
    assert not PromptSet.objects.exists()


def test_a_report_shows_what_was_said_and_runs_nothing_of_it(
    client: Client, small_portal: Portal, endpoint: str, make_set: MakeSet, membership: Membership
) -> None:
    small_portal.behave("--answers", "<script>alert(1)</script>")
    row = small_portal.awake("a", team=membership.team)
    asked = make_set(row.team, contains("<b>"), [{"kind": "same_as", "model": row.endpoint_model}])
    page = f"/deployments/{row.pk}/validation/"
    sent = client.post(f"{page}run/", {"set": str(asked.pk)})
    run = ValidationRun.objects.get()
    assert sent.url == f"{page}{run.pk}/"
    waiting = client.get(sent.url, headers={"hx-request": "true"}).content.decode()
    assert 'hx-trigger="every 1s"' in waiting
    assert "Waiting for a worker" in waiting
    assert 'hx-trigger="every 1s"' in client.get(page).content.decode()
    running.carry_on(run.pk, seconds=30)
    report = client.get(sent.url).content.decode()
    assert "hx-trigger" not in report, "it has nothing to wait for"
    assert "1 of 2 passed" in report
    assert "<script>alert" not in report
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in report
    assert "hx-trigger" not in client.get(page).content.decode()
    assert "failed" in client.get("/deployments/prompt-sets/").content.decode()


def test_a_plan_is_set_and_needs_a_set(client: Client, row: Deployment, make_set: MakeSet) -> None:
    page = f"/deployments/{row.pk}/validation/"
    assert "Write a prompt set" in client.get(page).content.decode()
    asked = make_set(row.team, contains("x"))
    assert client.post(page, {"on_update": "block", "every": ""}).status_code == 400
    told = {"prompt_set": str(asked.pk), "on_update": "block", "every": "day", "wakes": "on"}
    assert client.post(page, told).status_code == 302
    plan = ValidationPlan.objects.get()
    assert (plan.on_update, plan.every, plan.wakes, plan.prompt_set) == ("block", "day", True, asked)
    assert "Next by the clock" in client.get(page).content.decode()
    assert (
        "is asked this set" in client.post(f"/deployments/prompt-sets/{asked.pk}/remove/", follow=True).content.decode()
    )
    client.post(page, {"prompt_set": "", "on_update": "off", "every": ""})
    assert not ValidationPlan.objects.exists()
    client.post(f"/deployments/prompt-sets/{asked.pk}/remove/")
    assert not PromptSet.objects.of(row.team).exists()


POSTS = ["validation/", "validation/run/", "validation/measure/", "validation/{run}/call-off/"]


@pytest.mark.parametrize("role", [Role.BILLING, Role.VIEWER])
def test_who_may_only_look_changes_nothing(
    client: Client, membership: Membership, row: Deployment, make_set: MakeSet, role: Role
) -> None:
    asked = make_set(row.team, contains("x"))
    run = wishes.validate(row, asked, actor="t")
    membership.role = role
    membership.save()
    told = {"set": str(asked.pk), "prompt_set": str(asked.pk), "on_update": "block", "every": ""}
    for path in POSTS:
        assert client.post(f"/deployments/{row.pk}/{path.format(run=run.pk)}", told).status_code == 403, path
    for path in (f"prompt-sets/{asked.pk}/", f"prompt-sets/{asked.pk}/remove/", "prompt-sets/new/"):
        assert client.post(f"/deployments/{path}", form(ONE_CHECK)).status_code == 403, path
    assert client.get("/deployments/prompt-sets/new/").status_code == 403
    for path in ("prompt-sets/", f"prompt-sets/{asked.pk}/", f"{row.pk}/validation/", f"{row.pk}/validation/{run.pk}/"):
        page = client.get(f"/deployments/{path}")
        assert page.status_code == 200, path
        assert "Ask now" not in page.content.decode()
        assert "Call it off" not in page.content.decode()
        assert 'name="add"' not in page.content.decode()
    told_json = {"content_type": "application/json"}
    assert client.post("/api/v1/prompt-sets", "{}", **told_json).status_code == 403
    assert client.post(f"/api/v1/deployments/{row.pk}/validations", "{}", **told_json).status_code == 403
    assert client.post(f"/api/v1/deployments/{row.pk}/throughput", "{}", **told_json).status_code == 403
    assert (run.status, PromptSet.objects.count()) == ("waiting", 1)
    assert not ValidationPlan.objects.exists()


def test_another_teams_do_not_exist(client: Client, row: Deployment, make_set: MakeSet) -> None:
    asked = make_set(row.team, contains("x"))
    run = wishes.validate(row, asked, actor="t")
    stranger = MembershipFactory()
    mine = deployed(stranger.team, "http://127.0.0.1:9")
    client.force_login(stranger.user)
    for path in POSTS:
        assert client.post(f"/deployments/{row.pk}/{path.format(run=run.pk)}").status_code == 404, path
    paths = [f"prompt-sets/{asked.pk}/", f"{row.pk}/validation/", f"{row.pk}/validation/{run.pk}/"]
    for path in [*paths, f"{mine.pk}/validation/{run.pk}/"]:
        assert client.get(f"/deployments/{path}").status_code == 404, path
    assert client.post(f"/deployments/prompt-sets/{asked.pk}/remove/").status_code == 404
    client.post(f"/deployments/{mine.pk}/validation/run/", {"set": str(asked.pk)})
    told = {"prompt_set": str(asked.pk), "on_update": "block", "every": ""}
    assert client.post(f"/deployments/{mine.pk}/validation/", told).status_code == 400
    _, key = keys.issue(stranger.team, name="k")
    for method, path in (
        ("GET", f"prompt-sets/{asked.pk}"), ("PUT", f"prompt-sets/{asked.pk}"), ("DELETE", f"prompt-sets/{asked.pk}"),
        ("GET", f"deployments/{row.pk}/validation"), ("PUT", f"deployments/{row.pk}/validation"),
        ("GET", f"deployments/{row.pk}/validations"), ("POST", f"deployments/{row.pk}/validations"),
        ("GET", f"deployments/{row.pk}/validations/{run.pk}"), ("GET", f"deployments/{mine.pk}/validations/{run.pk}"),
        ("DELETE", f"deployments/{mine.pk}/validations/{run.pk}"),
        ("GET", f"deployments/{row.pk}/throughput"), ("POST", f"deployments/{row.pk}/throughput"),
        ("GET", f"deployments/{mine.pk}/throughput/{uuid4()}"),
    ):  # fmt: skip
        assert call(client, key, method, path, {"prompt_set": None}).status_code == 404, (method, path)
    assert call(client, key, "POST", f"deployments/{mine.pk}/validations", told).status_code == 400
    assert call(client, key, "PUT", f"deployments/{mine.pk}/validation", told).status_code == 400
    assert call(client, key, "GET", "prompt-sets").json()["results"] == []
    assert not ValidationRun.objects.filter(deployment=mine).exists()
    assert not ValidationPlan.objects.exists()


def call(client: Client, key: str, method: str, path: str, body: Any = None) -> Any:
    return client.generic(
        method, f"/api/v1/{path}", json.dumps(body or {}), content_type="application/json",
        headers={"authorization": f"Bearer {key}"},
    )  # fmt: skip


def test_the_api_keeps_sets_asks_and_reports(
    client: Client, small_portal: Portal, endpoint: str, membership: Membership
) -> None:
    small_portal.behave("--answers", "goodbye")
    row = small_portal.awake("a", team=membership.team)
    _, key = keys.issue(row.team, name="k")
    made = call(client, key, "POST", "prompt-sets", {"name": "smoke", "cases": CASES})
    assert (made.status_code, made.json()["edition"], made.json()["cases"]) == (201, 1, CASES)
    path = f"prompt-sets/{made.json()['id']}"
    more = [*CASES, {"prompt": "x", "checks": contains("zzz")}]
    assert call(client, key, "PUT", path, {"name": "smoke", "cases": more}).json()["edition"] == 2
    bad = call(client, key, "PUT", path, {"name": "smoke", "cases": [{"prompt": "x", "checks": []}]})
    assert (bad.status_code, list(bad.json()["errors"])) == (400, ["cases[0].checks"])
    assert bad.headers["content-type"] == "application/problem+json"
    twice = call(client, key, "POST", "prompt-sets", {"name": "smoke", "cases": CASES})
    assert (twice.status_code, list(twice.json()["errors"])) == (400, ["name"])
    asked = {"prompt_set": made.json()["id"]}
    plan = call(client, key, "PUT", f"deployments/{row.pk}/validation", asked | {"on_update": "warn", "every": "week"})
    assert (plan.json()["on_update"], plan.json()["every"]) == ("warn", "week")
    assert plan.json()["next_at"]
    assert call(client, key, "DELETE", path).status_code == 409
    sent = call(client, key, "POST", f"deployments/{row.pk}/validations", asked)
    assert (sent.status_code, sent.json()["status"], sent.json()["edition"]) == (202, "waiting", 2)
    assert call(client, key, "POST", f"deployments/{row.pk}/validations", asked).status_code == 409
    running.carry_on(ValidationRun.objects.get().pk, seconds=30)
    told = call(client, key, "GET", f"deployments/{row.pk}/validations/{sent.json()['id']}").json()
    assert (told["status"], told["passed"], told["failed"], told["version"]) == ("failed", 0, 2, 1)
    assert [one["answer"] for one in told["results"]] == ["goodbye"] * 2
    assert told["results"][0]["findings"][0]["verdict"] == "failed"
    assert call(client, key, "GET", f"deployments/{row.pk}/validations").json()["count"] == 1
    measured = call(client, key, "POST", f"deployments/{row.pk}/throughput")
    assert (measured.status_code, measured.json()["figures"]) == (202, [])
    found = call(client, key, "GET", f"deployments/{row.pk}/throughput/{measured.json()['id']}")
    assert found.json()["status"] == "waiting"
    assert call(client, key, "POST", f"deployments/{row.pk}/throughput").status_code == 409
    off = {"prompt_set": None}
    assert call(client, key, "PUT", f"deployments/{row.pk}/validation", off).json()["prompt_set"] is None
    assert call(client, key, "DELETE", path).status_code == 204
    assert call(client, key, "GET", path).status_code == 404
