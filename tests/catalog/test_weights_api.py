"""/api/v1/weights and /weights: who may do what, what another team sees, what each answer says."""

import json
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts import keys
from accounts.models import Role, Team
from catalog import fetching, importing
from catalog.models import HubToken, Weights
from catalog.uploads import receiving
from catalog.uploads.errors import Refused as UploadRefused
from catalog.uploads.receiving import Wanted
from tests.factories import tiny_weights as tiny
from tests.factories.accounts import MembershipFactory, TeamFactory
from tests.fakes.hub import TestHub

API = "/api/v1/weights"


@pytest.fixture
def weights(hub: TestHub, importers: Team) -> Weights:
    hub.add("org/tiny", {f"tiny-{kind}.gguf": tiny.gguf(seed=seed) for seed, kind in enumerate(["Q2_K", "Q4_K_M"])})
    row = importing.begin(importers, "org/tiny", actor="ada")
    fetching.fetch(row.pk)
    row.refresh_from_db()
    assert row.status == "ready"
    return row


def program(team: Team) -> dict[str, str]:
    return {"HTTP_AUTHORIZATION": f"Bearer {keys.issue(team, name='program')[1]}"}


def signed_in(client: Client, team: Team, role: str = Role.OWNER) -> Client:
    client.force_login(MembershipFactory(team=team, role=role).user)
    return client


def test_a_program_looks_imports_reads_and_removes(client: Client, hub: TestHub, importers: Team) -> None:
    hub.add("org/tiny", {"a-Q4_K_M.gguf": tiny.gguf()}, card={"license": "other", "license_name": "tiny-terms"})
    door = program(importers)
    body = json.dumps({"repo": "org/tiny"})
    looked = client.post(f"{API}/imports/preflight", body, content_type="application/json", **door)  # type: ignore[arg-type]
    assert looked.status_code == 200, looked.content
    found = looked.json()
    assert (found["licence_said"], found["weights"], found["hardware"]) == ("tiny-terms", None, ["cpu-small"])
    assert not Weights.objects.exists(), "a look changes nothing"
    made = client.post(f"{API}/imports", body, content_type="application/json", **door)  # type: ignore[arg-type]
    assert (made.status_code, made.json()["status"]) == (201, "downloading")
    address = f"{API}/{made.json()['id']}"
    fetching.fetch(Weights.objects.get().pk)
    read = client.get(address, **door).json()  # type: ignore[arg-type]
    assert (read["status"], read["bytes_done"], read["files"][0]["name"]) == (
        "ready",
        len(tiny.gguf()),
        "a-Q4_K_M.gguf",
    )
    assert [row["id"] for row in client.get(API, **door).json()["results"]] == [read["id"]]  # type: ignore[arg-type]
    assert client.delete(address, **door).status_code == 204  # type: ignore[arg-type]
    assert client.get(address, **door).status_code == 404  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"repo": "org/none"}, 400, "repo_missing"),
        ({"repo": "http://10.0.0.1/org/name"}, 400, "bad_repo"),
        ({"repo": "org/tiny", "revision": "nowhere"}, 400, "bad_revision"),
        ({"repo": "org/tiny", "file": "Q9"}, 400, "no_such_file"),
        ({}, 400, None),
        ({"repo": ""}, 400, None),
        ({"repo": "a\x00b/c"}, 400, None),
        ({"repo": ["x"]}, 400, None),
    ],
)
def test_bad_wishes_are_problems_that_name_the_field(
    client: Client, hub: TestHub, importers: Team, body: Any, status: int, code: str | None
) -> None:
    hub.add("org/tiny", {"a.gguf": tiny.gguf()})
    for path in ("imports", "imports/preflight"):
        answer = client.post(f"{API}/{path}", json.dumps(body), content_type="application/json", **program(importers))  # type: ignore[arg-type]
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert answer.json().get("code") == code or code is None
        assert answer.json()["errors"]


def test_a_hub_that_is_away_is_not_the_callers_fault(client: Client, hub: TestHub, importers: Team) -> None:
    hub.is_down = True
    answer = client.post(
        f"{API}/imports", '{"repo": "org/tiny"}', content_type="application/json", **program(importers)  # type: ignore[arg-type]
    )  # fmt: skip
    assert (answer.status_code, answer.json()["code"]) == (502, "hub_away")


def test_the_token_is_written_and_never_read(client: Client, hub: TestHub, importers: Team) -> None:
    door = program(importers)
    assert client.get(f"{API}/hub-token", **door).json()["is_set"] is False  # type: ignore[arg-type]
    set_ = client.put(f"{API}/hub-token", '{"token": "hf_accepted"}', content_type="application/json", **door)  # type: ignore[arg-type]
    assert (set_.status_code, set_.json()["account"], "hf_accepted" in set_.content.decode()) == (200, "ada", False)
    signed_in(client, importers)
    page = client.get("/weights/import").content.decode()
    assert "hf_accepted" not in page
    assert "<b>ada</b>" in page
    wrong = client.post("/weights/token", {"token": "hf_wrong_one"})
    assert (wrong.status_code, "does not know this token" in wrong.content.decode()) == (400, True)
    assert "hf_wrong_one" not in wrong.content.decode()
    assert client.delete(f"{API}/hub-token", **door).status_code == 204  # type: ignore[arg-type]
    assert not HubToken.objects.exists()


@pytest.mark.parametrize("role", Role.values)
def test_each_role_looks_and_makers_change(client: Client, hub: TestHub, weights: Weights, role: str) -> None:
    team = weights.team
    assert team
    signed_in(client, team, role)
    pk = weights.pk
    for path in ("/weights/", "/weights/import", "/weights/import?repo=org/tiny", f"/weights/{pk}", API, f"{API}/{pk}"):
        assert client.get(path).status_code == 200, path
    may = role in {Role.OWNER, Role.ADMIN, Role.DEVELOPER}
    forms: dict[str, dict[str, str]] = {
        "/weights/import": {"repo": "org/tiny"},
        "/weights/token": {"token": "hf_accepted"},
        "/weights/token/remove": {},
        f"/weights/{pk}/notes": {"notes": "Good."},
        f"/weights/{pk}/retry": {},
        f"/weights/{pk}/remove": {},
    }
    for path, form in forms.items():
        assert client.post(path, form).status_code == (302 if may else 403), path
    weights.refresh_from_db()
    assert (weights.status, weights.notes) == (("removed", "Good.") if may else ("ready", ""))
    for path in ("imports", "imports/preflight"):
        answer = client.post(f"{API}/{path}", '{"repo": "org/tiny"}', content_type="application/json")
        assert answer.status_code in ({200, 201} if may else {403}), path
    assert client.put(f"{API}/hub-token", '{"token": "hf_accepted"}', content_type="application/json").status_code == (
        200 if may else 403
    )
    assert client.delete(f"{API}/hub-token").status_code == (204 if may else 403)


def test_another_teams_weights_do_not_exist(client: Client, hub: TestHub, weights: Weights) -> None:
    other = TeamFactory()
    signed_in(client, other)
    for pk in (weights.pk, uuid4()):
        assert client.get(f"/weights/{pk}").status_code == 404
        for verb in ("notes", "retry", "remove"):
            assert client.post(f"/weights/{pk}/{verb}", {"notes": "x"}).status_code == 404
        assert client.get(f"{API}/{pk}").status_code == 404
        assert client.delete(f"{API}/{pk}").status_code == 404
        assert client.post(f"{API}/{pk}/retry").status_code == 404
    assert client.get(API).json()["results"] == []
    assert b"org/tiny" not in client.get("/weights/").content
    weights.refresh_from_db()
    assert weights.status == "ready"


def test_the_pages_say_what_is_there_and_stop_asking(client: Client, hub: TestHub, weights: Weights) -> None:
    team = weights.team
    assert team
    signed_in(client, team)
    look = client.get("/weights/import?repo=org/tiny").content.decode()
    assert "Q2_K" in look
    assert "has just these" in look
    fresh = client.post(
        "/weights/import", {"repo": f"org/tiny@{weights.commit}", "file": "tiny-Q2_K.gguf", "said": "main"}
    )
    second = Weights.objects.exclude(pk=weights.pk).get()
    assert fresh.headers["location"] == f"/weights/{second.pk}"
    assert (second.version, second.revision) == (2, f"main@{weights.commit[:7]} Q2_K")
    moving = client.get(f"/weights/{second.pk}").content.decode()
    assert 'hx-trigger="every 1s"' in moving
    part = client.get(f"/weights/{second.pk}", HTTP_HX_REQUEST="true")
    assert (part.status_code, b"<html" in part.content) == (200, False)
    fetching.fetch(second.pk)
    assert client.get(f"/weights/{second.pk}", HTTP_HX_REQUEST="true").headers["HX-Refresh"] == "true"
    card = client.get(f"/weights/{second.pk}").content.decode()
    assert "hx-trigger" not in card
    assert second.files.get().sha256 in card
    assert f"/deployments/new?model={second.model.slug}" in card
    assert "a newer version has taken its place" in client.get(f"/weights/{weights.pk}").content.decode().lower()
    assert "hx-trigger" not in client.get("/weights/").content.decode()


def test_a_refusal_stands_on_the_page_with_what_to_do(client: Client, hub: TestHub, importers: Team) -> None:
    hub.add("org/gated", {"a.gguf": tiny.gguf()}, gated="auto")
    signed_in(client, importers)
    assert "No weights yet" in client.get("/weights/").content.decode()
    page = client.get("/weights/import?repo=org/gated").content.decode()
    assert "Accept its terms at" in page
    assert "<details open>" in page, "the form for the token is open"
    set_ = client.post("/weights/token", {"token": "hf_accepted", "repo": "org/gated"})
    assert set_.headers["location"] == "/weights/import?repo=org%2Fgated"
    assert "Gated, accepted" in client.get("/weights/import?repo=org/gated").content.decode()


def test_a_list_asks_as_much_for_many_as_for_few(client: Client, importers: Team, hub: TestHub) -> None:
    door = program(importers)
    hub.add("org/tiny", {f"tiny-Q{number}_0.gguf": tiny.gguf(seed=number) for number in range(2, 8)})
    counts = []
    for number in range(2, 8):
        row = importing.begin(importers, "org/tiny", file=f"Q{number}_0", actor="ada")
        fetching.fetch(row.pk)
        with CaptureQueriesContext(connection) as asked:
            assert len(client.get(API, **door).json()["results"]) == number - 1  # type: ignore[arg-type]
        counts.append(len(asked))
    assert counts[-1] <= counts[1], counts


def test_an_upload_takes_no_imported_models_name(hub: TestHub, weights: Weights) -> None:
    assert weights.team
    with pytest.raises(UploadRefused, match="another model"):
        receiving.begin(weights.team, Wanted("tiny", "model.gguf", 10), actor="ada")
