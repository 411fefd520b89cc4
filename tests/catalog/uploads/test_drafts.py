"""A draft from its files to weights that can be deployed, or to a reason; nothing of a bad file is kept."""

import hashlib
import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone

from accounts import keys
from accounts.models import Role, Team
from catalog.models import Hardware, Licence, Model, Offer, Weights
from catalog.uploads import drafts, receiving, spool, storing, verifying
from catalog.uploads.drafts import Card
from catalog.uploads.errors import Refused
from catalog.uploads.models import Draft, Upload
from catalog.uploads.protocol import Chunk
from catalog.uploads.receiving import Receiving, Wanted
from tests.factories import catalog as library
from tests.factories import tiny_weights as tiny
from tests.factories.accounts import MembershipFactory, TeamFactory

ADAPTER = tiny.gguf_adapter()


@pytest.fixture
def team(db: None, settings: Any, tmp_path: Path) -> Team:
    settings.UPLOADS_DIR, settings.WEIGHTS_DIR = str(tmp_path / "uploads"), str(tmp_path / "weights")
    settings.UPLOADS_KEEP_FREE = 0
    Hardware.objects.create(slug="cpu-small", name="CPU small", memory_gib=4, backend="local")
    return TeamFactory()


@pytest.fixture
def smollm2(team: Team, settings: Any) -> Model:
    Hardware.objects.all().delete()
    library.load_starter()
    return library.model("smollm2-135m-instruct")


def sent(team: Team, files: dict[str, bytes], *, name: str = "mine", sha256: str = "") -> Draft:
    for filename, content in files.items():
        upload = receiving.begin(team, Wanted(name, filename, len(content), sha256), actor="ada")
        work = Receiving(upload, Chunk(0, len(content), None))
        work.write(content)
        work.finish()
        work.close()
    return Draft.objects.unfinished().get(team=team, name=name)


def verified(draft: Draft, card: Card | None = None) -> Draft:
    drafts.finish(draft, card or Card(), actor="ada")
    verifying.verify(draft.pk)
    draft.refresh_from_db()
    return draft


def test_a_gguf_becomes_weights_that_can_be_deployed(team: Team, tmp_path: Path) -> None:
    draft = verified(sent(team, {"tiny.gguf": tiny.gguf()}))
    assert (draft.status, draft.reason) == ("ready", "")
    weights = draft.weights
    assert weights
    assert (weights.format, weights.revision, weights.size_bytes) == ("gguf", "v1", len(tiny.gguf()))
    assert (weights.team, weights.source_kind, weights.status) == (team, "upload", "ready")
    assert [(file.name, file.blob_id) for file in weights.files.all()] == [("tiny.gguf", weights.sha256)]
    assert weights.sha256 == hashlib.sha256(tiny.gguf()).hexdigest()
    assert Path(weights.path).read_bytes() == tiny.gguf()
    model = weights.model
    assert (model.team, model.openness, model.context_tokens) == (team, "own-weights", 512)
    assert model.slug == f"{team.slug}.mine"
    offer = Offer.objects.get(model=model)
    assert (offer.weights, offer.engine) == (weights, "llama_cpp")
    assert "cpu-small" in offer.hardware.values_list("slug", flat=True)
    assert list((tmp_path / "uploads").iterdir()) == []
    assert Upload.objects.get().state == "stored"


def test_each_upload_of_a_name_is_a_new_version_and_the_offer_s(team: Team) -> None:
    first = verified(sent(team, {"tiny.gguf": tiny.gguf()})).weights
    second = verified(sent(team, {"tiny.gguf": tiny.gguf(seed=2)})).weights
    assert first
    assert second
    assert (first.revision, second.revision) == ("v1", "v2")
    assert first.model == second.model
    assert Offer.objects.get(model=second.model).weights == second
    assert Path(first.path).read_bytes() == tiny.gguf()


def test_the_same_content_is_stored_once(team: Team, tmp_path: Path) -> None:
    for name in ("one", "two"):
        verified(sent(team, {"tiny.gguf": tiny.gguf()}, name=name))
    (blob,) = (tmp_path / "weights" / "blobs").iterdir()
    assert blob.stat().st_nlink == 3


def test_nothing_is_deployable_before_it_is_verified(team: Team) -> None:
    draft = sent(team, {"tiny.gguf": tiny.gguf()})
    drafts.finish(draft, Card(), actor="ada")
    assert not Weights.objects.filter(model__team=team).exists()
    assert not Model.objects.filter(team=team).exists()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("tiny.gguf", b"\x80\x04\x95pickle", "magic"),
        ("tiny.gguf", tiny.gguf()[:-300], "cut off"),
        ("model.safetensors", (2**40).to_bytes(8, "little") + b"{}", "header would be"),
        ("config.json", b'{"auto_map": {"AutoModel": "x.py"}}', "code of its own"),
    ],
)
def test_a_bad_file_is_refused_by_name_and_nothing_of_it_is_kept(
    team: Team, tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    draft = verified(sent(team, {name: content, "README.md": b"fine"}))
    assert draft.status == "refused"
    assert draft.reason.startswith(f"{name}: ")
    assert reason in draft.reason
    refused = Upload.objects.get(filename=name)
    assert refused.state == "refused"
    assert not spool.path(refused.pk).exists()
    assert len(list((tmp_path / "uploads").iterdir())) == 1, "the good one waits for a better neighbour"
    assert not Weights.objects.filter(model__team=team).exists()
    sent(team, {"tiny.gguf": tiny.gguf()})
    if name != "tiny.gguf":
        Upload.objects.filter(filename=name).delete()
    assert verified(draft).status == "ready"


def test_another_sha256_than_promised_is_refused(team: Team) -> None:
    draft = verified(sent(team, {"tiny.gguf": tiny.gguf()}, sha256="0" * 64))
    assert draft.status == "refused"
    assert "0" * 64 in draft.reason
    assert hashlib.sha256(tiny.gguf()).hexdigest() in draft.reason
    right = hashlib.sha256(tiny.gguf()).hexdigest()
    assert verified(sent(team, {"tiny.gguf": tiny.gguf()}, sha256=right)).status == "ready"


def test_bytes_that_changed_on_the_disk_are_found(team: Team) -> None:
    whole = tiny.gguf()
    draft = sent(team, {"tiny.gguf": whole}, sha256=hashlib.sha256(whole).hexdigest())
    path = spool.path(draft.uploads.get().pk)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "was promised" in verified(draft).reason


def test_a_name_that_would_be_another_model_s_is_refused(team: Team, smollm2: Model) -> None:
    team.slug = "claude-opus-4"
    team.save()
    with pytest.raises(Refused, match="taken here by another model"):
        sent(team, {"tiny.gguf": tiny.gguf()}, name="7")
    assert not Draft.objects.exists()


def test_a_disk_that_fails_in_the_midst_is_said_and_nothing_is_lost(team: Team, settings: Any, tmp_path: Path) -> None:
    draft = sent(team, {"tiny.gguf": tiny.gguf()})
    (tmp_path / "a file").touch()
    settings.WEIGHTS_DIR = str(tmp_path / "a file")
    assert "verify again" in verified(draft).reason
    settings.WEIGHTS_DIR = str(tmp_path / "weights")
    assert verified(draft).status == "ready"


def test_a_draft_is_finished_only_when_all_is_here(team: Team) -> None:
    receiving.begin(team, Wanted("mine", "tiny.gguf", 10), actor="ada")
    draft = Draft.objects.get()
    with pytest.raises(Refused, match=r"Still to come: tiny\.gguf"):
        drafts.finish(draft, Card(), actor="ada")
    receiving.end(draft.uploads.get(), "given up")
    with pytest.raises(Refused, match="no file yet"):
        drafts.finish(draft, Card(), actor="ada")


def test_a_lost_message_or_worker_costs_one_sweep_and_two_workers_never_both_verify(team: Team) -> None:
    draft = sent(team, {"tiny.gguf": tiny.gguf()})
    drafts.finish(draft, Card(), actor="ada")
    assert drafts.waiting() == []
    Draft.objects.update(touched_at=timezone.now() - timedelta(minutes=1))
    assert drafts.waiting() == [draft.pk]
    assert drafts.claim(draft.pk)
    assert drafts.waiting() == []
    assert drafts.claim(draft.pk) is None
    Draft.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert drafts.waiting() == [draft.pk]
    verifying.verify(draft.pk)
    verifying.verify(draft.pk)
    assert Weights.objects.filter(model__team=team).count() == 1


def test_an_adapter_is_joined_to_a_base_that_is_here_and_fits(team: Team, smollm2: Model) -> None:
    base = verified(sent(team, {"tiny.gguf": tiny.gguf()}, name="base")).weights
    assert base
    draft = verified(sent(team, {"lora.gguf": ADAPTER}, name="tuned"))
    assert (draft.status, "choose it" in draft.reason) == ("refused", True)
    draft = verified(draft, Card(base=library.model("deepseek-v4-pro")))
    assert "can't be deployed here" in draft.reason
    draft = verified(draft, Card(base=smollm2))
    assert "another" in draft.reason
    draft = verified(draft, Card(base=base.model))
    assert (draft.status, draft.reason) == ("ready", "")
    assert draft.weights
    assert (draft.weights.kind, draft.weights.base) == ("adapter", base)
    assert draft.weights.offers.get().engine == "llama_cpp", "deploying it starts it on its base"
    draft = verified(sent(team, {"lora.gguf": ADAPTER}, name="twice"), Card(base=draft.weights.model))
    assert "an adapter itself" in draft.reason


def test_a_licence_is_inherited_and_warned_about_where_it_conflicts(team: Team, smollm2: Model) -> None:
    base = smollm2
    closed = Licence.objects.create(slug="nc", name="Non-commercial", commercial_use=False)
    free = Licence.objects.create(slug="free", name="Free for all", commercial_use=True)
    draft = verified(sent(team, {"tiny.gguf": tiny.gguf()}), Card(base=base))
    assert draft.weights
    assert draft.weights.model.licence == base.licence
    assert draft.weights.licence_warning == ""
    base.licence = closed
    assert "does not allow commercial use" in storing.licence_warning(base, free)
    assert storing.licence_warning(base, closed) == ""
    closed.commercial_use = None
    assert "conditions go on to hold" in storing.licence_warning(base, free)


def test_old_things_are_forgotten_with_their_bytes(team: Team, tmp_path: Path) -> None:
    draft = sent(team, {"tiny.gguf": tiny.gguf()})
    receiving.begin(team, Wanted("mine", "more.gguf", 10), actor="ada")
    stray = tmp_path / "uploads" / f"{uuid4()}.part"
    stray.touch()
    drafts.forget_old()
    assert len(list((tmp_path / "uploads").iterdir())) == 3
    Upload.objects.update(expires_at=timezone.now())
    Draft.objects.update(touched_at=timezone.now() - timedelta(days=30))
    drafts.forget_old()
    assert list((tmp_path / "uploads").iterdir()) == [stray], "a young stranger may be an upload that begins"
    draft.refresh_from_db()
    assert draft.status == "gone"
    Upload.objects.update(touched_at=timezone.now() - timedelta(days=30))
    Draft.objects.update(touched_at=timezone.now() - timedelta(days=30))
    drafts.forget_old()
    assert not Draft.objects.exists()


@pytest.fixture
def door(team: Team) -> dict[str, str]:
    _, key = keys.issue(team, name="x")
    return {"authorization": f"Bearer {key}"}


def test_the_api_tells_lists_finishes_and_gives_up(team: Team, door: dict[str, str], client: Client) -> None:
    draft = sent(team, {"tiny.gguf": tiny.gguf()})
    (row,) = client.get("/api/v1/weights/drafts?name=mine", headers=door).json()["results"]
    assert (row["name"], row["status"], row["length"]) == ("mine", "open", len(tiny.gguf()))
    assert row["files"][0]["offset"] == len(tiny.gguf())
    address = f"/api/v1/weights/drafts/{draft.pk}"
    for field, value in (("base_model", "nothing"), ("licence", "nothing"), ("notes", 5 * ["x"])):
        answer = client.post(f"{address}/finish", json.dumps({field: value}), "application/json", headers=door)
        assert (answer.status_code, list(answer.json()["errors"])) == (400, [field])
    answer = client.post(f"{address}/finish", "{}", "application/json", headers=door)
    assert (answer.status_code, answer.json()["status"]) == (202, "verifying")
    assert client.delete(address, headers=door).status_code == 409
    verifying.verify(draft.pk)
    assert client.get(address, headers=door).json()["weights"] == str(draft.pk)
    assert client.delete(address, headers=door).status_code == 409
    other = sent(team, {"tiny.gguf": tiny.gguf()}, name="other")
    assert client.delete(f"/api/v1/weights/drafts/{other.pk}", headers=door).status_code == 204
    assert not spool.path(other.uploads.get().pk).exists()


@pytest.mark.parametrize("role", list(Role))
def test_who_may_do_what_with_a_draft(team: Team, client: Client, role: Role) -> None:
    draft = sent(team, {"tiny.gguf": tiny.gguf()})
    may = role in {Role.OWNER, Role.ADMIN, Role.DEVELOPER}
    client.force_login(MembershipFactory(team=team, role=role).user)
    assert client.get("/weights/upload").status_code == 200
    assert f"/weights/upload/{draft.pk}" in client.get("/weights/").content.decode()
    page = client.get(f"/weights/upload/{draft.pk}").content.decode()
    assert ("Choose files" in page, "may look at uploads" in page) == (may, not may)
    assert client.post(f"/weights/upload/{draft.pk}/give-up").status_code == (302 if may else 403)
    draft = sent(team, {"tiny.gguf": tiny.gguf()})
    assert client.post(f"/weights/upload/{draft.pk}/finish").status_code == (302 if may else 403)
    assert client.get(f"/api/v1/weights/drafts/{draft.pk}").status_code == 200


def test_another_team_s_draft_is_not_there(team: Team, client: Client) -> None:
    draft = sent(team, {"tiny.gguf": tiny.gguf()})
    client.force_login(MembershipFactory().user)
    assert client.get(f"/weights/upload/{draft.pk}").status_code == 404
    assert client.post(f"/weights/upload/{draft.pk}/finish").status_code == 404
    assert client.post(f"/weights/upload/{draft.pk}/give-up").status_code == 404
    for method in ("get", "delete"):
        assert getattr(client, method)(f"/api/v1/weights/drafts/{draft.pk}").status_code == 404
    assert client.post(f"/api/v1/weights/drafts/{draft.pk}/finish").status_code == 404
    assert client.get("/api/v1/weights/drafts").json()["results"] == []
    assert "mine" not in client.get("/weights/upload").content.decode()
    assert "not finished" not in client.get("/weights/").content.decode()


def test_the_page_says_what_is_missing_refused_and_ready(team: Team, client: Client) -> None:
    client.force_login(MembershipFactory(team=team).user)
    receiving.begin(team, Wanted("mine", "tiny.gguf", 10), actor="ada")
    draft = Draft.objects.get()
    answer = client.post(f"/weights/upload/{draft.pk}/finish")
    assert answer.status_code == 400
    assert "Still to come" in answer.content.decode()
    draft = verified(sent(team, {"tiny.gguf": b"nonsense"}))
    page = client.get(f"/weights/upload/{draft.pk}").content.decode()
    assert "magic" in page
    assert "disabled" in page
    draft = verified(sent(team, {"tiny.gguf": tiny.gguf()}))
    page = client.get(f"/weights/upload/{draft.pk}").content.decode()
    assert f"/deployments/new?model={team.slug}.mine" in page
    assert "Choose files" not in page


def test_the_page_asks_on_only_while_the_files_are_verified(team: Team, client: Client) -> None:
    client.force_login(MembershipFactory(team=team).user)
    draft = sent(team, {"tiny.gguf": tiny.gguf()})
    drafts.finish(draft, Card(), actor="ada")
    address, htmx = f"/weights/upload/{draft.pk}", {"hx-request": "true"}
    answer = client.get(address, headers=htmx)
    assert 'hx-trigger="every 1s"' in answer.content.decode()
    assert "<html" not in answer.content.decode()
    verifying.verify(draft.pk)
    assert client.get(address, headers=htmx)["HX-Refresh"] == "true"
    assert "hx-trigger" not in client.get(address).content.decode()


def test_a_base_is_found_by_its_name_and_an_unknown_or_closed_one_is_none(
    team: Team, smollm2: Model, client: Client
) -> None:
    client.force_login(MembershipFactory(team=team).user)
    draft = sent(team, {"tiny.gguf": tiny.gguf()})
    page = client.get(f"/weights/upload/{draft.pk}").content.decode()
    assert 'data-suggest="/weights/upload/bases"' in page
    assert f'value="{smollm2.slug}"' in page, "without JavaScript there is a list, too"
    names = [one["name"] for one in client.get("/weights/upload/bases?q=smol").json()["choices"]]
    assert names[0] == smollm2.slug
    assert client.get("/weights/upload/bases?q=claude").json() == {"choices": []}, "its weights are closed"
    for text in ("nothing like it", "claude-opus-4.7"):
        answer = client.post(f"/weights/upload/{draft.pk}/finish", {"base": text})
        assert (answer.status_code, "No open model" in answer.content.decode()) == (400, True)
    assert client.post(f"/weights/upload/{draft.pk}/finish", {"base": smollm2.name}).status_code == 302
    draft.refresh_from_db()
    assert (draft.status, draft.base) == ("verifying", smollm2)
