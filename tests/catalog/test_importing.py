"""A repository of the Hub becomes weights that can be deployed, or is refused with what to do before anything comes."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from accounts.models import AuditEvent, Team
from catalog import fetching, hub_tokens, huggingface, importing, removing, store
from catalog.errors import HubError, InUse, Refused
from catalog.models import Blob, HubToken, Licence, Offer, Weights
from deployments import operations, verifying
from tests.factories import catalog as library
from tests.factories import tiny_weights as tiny
from tests.factories.accounts import TeamFactory
from tests.fakes.hub import TestHub

CONFIG = json.dumps({"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 2048}).encode()
SAFE = {
    "config.json": CONFIG,
    "tokenizer.json": b"{}",
    "model.safetensors": tiny.safetensors(),
    "README.md": b"# Tiny\n",
    ".gitattributes": b"*.safetensors filter=lfs\n",
}
GGUF = tiny.gguf()


def imported(team: Team, repo: str = "org/tiny", **more: str) -> Weights:
    weights = importing.begin(team, repo, actor="ada", **more)
    fetching.fetch(weights.pk)
    weights.refresh_from_db()
    return weights


def test_a_gguf_comes_pinned_and_verified_and_can_be_deployed(hub: TestHub, importers: Team) -> None:
    repo = hub.add("org/tiny", {"tiny-Q4_K_M.gguf": GGUF}, card={"license": "mit"})
    Licence.objects.create(slug="mit", spdx_id="MIT", name="MIT", commercial_use=True)
    weights = imported(importers)
    assert (weights.status, weights.detail) == ("ready", "")
    assert (weights.repo, weights.commit, weights.revision) == (
        "org/tiny",
        repo.commit,
        f"main@{repo.commit[:7]} Q4_K_M",
    )
    assert (weights.bytes_done, weights.size_bytes) == (len(GGUF), len(GGUF))
    assert weights.sha256 == hashlib.sha256(GGUF).hexdigest()
    assert Path(weights.path).read_bytes() == GGUF
    assert verifying.problem_with(weights) == ""
    model = weights.model
    assert (model.slug, model.openness, model.team) == (f"{importers.slug}.tiny", "open-weight", importers)
    assert (model.publisher, str(model.licence), model.context_tokens) == ("org", "MIT", 512)
    offer = Offer.objects.get(model=model)
    assert (offer.weights, offer.engine, [one.slug for one in offer.hardware.all()]) == (
        weights,
        "llama_cpp",
        ["cpu-small"],
    )
    assert not store.incoming_folder(weights.pk).exists()


def test_safetensors_come_with_what_belongs_to_them(hub: TestHub, importers: Team) -> None:
    hub.add(
        "org/safe", SAFE, card={"license": "apache-2.0"}, more={"safetensors": {"total": 36, "parameters": {"F32": 36}}}
    )
    found = importing.preflight(importers, "org/safe")
    assert (found.parameters, found.context_tokens, found.licence_said) == (36, 2048, "apache-2.0")
    weights = imported(importers, "org/safe")
    assert weights.status == "ready", weights.detail
    names = {file.name: file.sha256 for file in weights.files.all()}
    assert set(names) == {"config.json", "tokenizer.json", "model.safetensors", "README.md"}
    assert all(names[name] == hashlib.sha256(SAFE[name]).hexdigest() for name in names)
    assert sorted(path.name for path in Path(weights.path).iterdir()) == sorted(names)


@pytest.mark.parametrize(
    ("name", "files", "code", "says"),
    [
        ("org/none", None, "repo_missing", "no repository org/none"),
        ("org/x@v9", {"a.gguf": GGUF}, "bad_revision", "no revision 'v9'"),
        ("org/x", {"a.gguf": GGUF, "modeling.py": b"1"}, "has_code", "modeling.py"),
        ("org/x", SAFE | {"config.json": b'{"auto_map": {}}'}, "has_code", "auto_map"),
        ("org/x", {"a.gguf": GGUF, "config.json": b'{"auto_map": {}}'}, "has_code", "auto_map"),
        ("org/x", SAFE | {"tokenizer_config.json": b'{"auto_map": {}}'}, "has_code", "tokenizer_config.json"),
        ("org/x", {"pytorch_model.bin": b"1", "config.json": b"{}"}, "only_pickle", "pickles"),
        ("org/x", {"model.onnx": b"1"}, "no_weights", "no .gguf"),
        ("org/x", SAFE | {"config.json": b"[["}, "bad_config", "not JSON"),
        ("not a name", None, "bad_repo", "org/name"),
        ("org/../x", None, "bad_repo", "org/name"),
        ("http://169.254.169.254/org/name", None, "bad_repo", "private address"),
        ("http://[::1]:9/org/name", None, "bad_repo", "private address"),
        ("http://127.0.0.1:1/org/name", None, "bad_repo", "private address"),
        ("https://evil.example/org/name", None, "bad_repo", "elsewhere"),
        ("file:///etc/passwd", None, "bad_repo", "elsewhere"),
    ],
)
def test_what_cannot_be_run_is_refused_with_what_to_do(
    hub: TestHub, importers: Team, name: str, files: dict[str, bytes] | None, code: str, says: str
) -> None:
    if files:
        hub.add("org/x", files)
    with pytest.raises(Refused, match=says.replace(".", r"\.")) as caught:
        importing.begin(importers, name, actor="ada")
    assert caught.value.code == code
    assert not Weights.objects.exists()
    assert not any(path.startswith("/lfs/") for _, path, _, _ in hub.asked), "nothing was downloaded"


@pytest.mark.parametrize("said", ["x\0", "\ud800", "x\x1b[31m"])
def test_words_that_no_database_keeps_are_left_out(hub: TestHub, importers: Team, said: str) -> None:
    config = json.loads(CONFIG) | {"quantization_config": {"quant_method": said}, "architectures": [said]}
    hub.add(
        "org/odd",
        SAFE | {"config.json": json.dumps(config).encode()},
        card={"license": "other", "license_name": said, "base_model": said},
        more={"config": {"architectures": [said]}},
    )
    weights = imported(importers, "org/odd")
    assert (weights.status, weights.detail) == ("ready", "")
    assert said not in str(weights.facts)
    hub.add("org/huge", {"a.gguf": GGUF}, more={"gguf": {"context_length": 2**40, "architecture": said}})
    assert imported(importers, "org/huge").facts["context_tokens"] == 512
    lora = {"peft_type": "LORA", "base_model_name_or_path": said}
    hub.add("org/lora", {"adapter_config.json": json.dumps(lora).encode(), "adapter_model.safetensors": b"1"})
    with pytest.raises(Refused, match="does not say of which model"):
        importing.preflight(importers, "org/lora")


def test_what_the_database_does_not_take_has_failed_and_is_not_read_for_ever(hub: TestHub, importers: Team) -> None:
    config = json.loads(CONFIG) | {"num_hidden_layers": 2}
    hub.add("org/safe", SAFE | {"config.json": json.dumps(config).encode()})
    weights = importing.begin(importers, "org/safe", actor="ada")
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE catalog_weights ADD CHECK ((facts->>'layers')::int / 0 > 0) NOT VALID")
    fetching.fetch(weights.pk)
    weights.refresh_from_db()
    assert (weights.status, weights.reason) == ("failed", "portal_failed")


def test_a_gated_repository_needs_a_token_whose_owner_accepted_its_terms(hub: TestHub, importers: Team) -> None:
    hub.add("org/gated", {"a.gguf": GGUF}, gated="manual")
    with pytest.raises(Refused, match="Accept its terms at") as caught:
        importing.preflight(importers, "org/gated")
    assert caught.value.code == "gated_needs_token"
    hub_tokens.keep(importers, "hf_stranger", actor="ada")
    with pytest.raises(Refused, match="has not been given access") as caught:
        importing.preflight(importers, "org/gated")
    assert caught.value.code == "gated_not_accepted"
    hub_tokens.keep(importers, "hf_accepted", actor="ada")
    assert importing.preflight(importers, "org/gated").is_gated
    assert imported(importers, "org/gated").status == "ready"


def test_a_private_repository_does_not_exist_without_the_right_token(hub: TestHub, importers: Team) -> None:
    hub.add("org/private", {"a.gguf": GGUF}, private=True)
    with pytest.raises(Refused, match="set the team's Hub token"):
        importing.preflight(importers, "org/private")
    hub_tokens.keep(importers, "hf_accepted", actor="ada")
    assert importing.preflight(importers, "org/private").repo == "org/private"


def test_the_token_goes_to_the_hub_alone_and_stands_nowhere(
    hub: TestHub, importers: Team, caplog: pytest.LogCaptureFixture
) -> None:
    hub.add("org/gated", {"a.gguf": GGUF}, gated="auto")
    with caplog.at_level(logging.DEBUG):
        row = hub_tokens.keep(importers, "hf_accepted", actor="ada")
        assert (row.account, "hf_accepted" in row.sealed_token) == ("ada", False)
        assert imported(importers, "org/gated").status == "ready"
    tokens = {(host, token) for host, path, _, token in hub.asked if path.startswith("/lfs/")}
    assert tokens == {("localhost", "")}, "the storage's host saw no token"
    assert ("127.0.0.1", "hf_accepted") in {(host, token) for host, _, _, token in hub.asked}
    assert "hf_accepted" not in caplog.text
    assert not AuditEvent.objects.filter(subject__contains="hf_accepted").exists()
    assert "hf_accepted" not in repr(huggingface.Hub("hf_accepted"))


def test_a_token_that_the_hub_does_not_know_is_not_kept(hub: TestHub, importers: Team) -> None:
    for wrong in ("hf_unknown", "short", "two words here"):
        with pytest.raises(Refused) as caught:
            hub_tokens.keep(importers, wrong, actor="ada")
        assert caught.value.field == "token"
        assert wrong not in str(caught.value)
    assert not HubToken.objects.exists()


@pytest.mark.parametrize(
    "target",
    ["https://169.254.169.254/latest", "https://10.0.0.1/x", "https://[::1]/x", "http://1.1.1.2/x", "ftp://1.1.1.2/x"],
)
def test_a_redirect_of_a_public_hub_leads_to_no_private_address(settings: Any, target: str) -> None:
    settings.HUB_URL = "https://1.1.1.1"
    huggingface.check_target("https://1.1.1.2/lfs")
    with pytest.raises(HubError):
        huggingface.check_target(target)


def test_of_several_quantisations_one_is_chosen(hub: TestHub, importers: Team) -> None:
    many = {f"tiny-{kind}.gguf": tiny.gguf(seed=seed) for seed, kind in enumerate(["Q2_K", "Q4_K_M", "Q8_0", "BF16"])}
    hub.add("org/many", many | {"mmproj-F16.gguf": GGUF})
    found = importing.preflight(importers, "org/many")
    assert found.variant.label == "Q4_K_M"
    assert {one.label for one in found.choices} == {"Q2_K", "Q4_K_M", "Q8_0", "BF16"}
    assert importing.preflight(importers, "org/many", file="Q8_0").variant.file == "tiny-Q8_0.gguf"
    assert importing.preflight(importers, f"{hub.url}/org/many/blob/main/tiny-BF16.gguf").variant.label == "BF16"
    with pytest.raises(Refused, match="There are: "):
        importing.preflight(importers, "org/many", file="Q3_K")
    first, second = imported(importers, "org/many"), imported(importers, "org/many", file="Q8_0")
    assert (first.model, first.version, second.version) == (second.model, 1, 2)


def test_a_model_in_parts_comes_whole(hub: TestHub, importers: Team) -> None:
    half = dict(list(tiny.SHAPES.items())[:6])
    rest = {name: shape for name, shape in tiny.SHAPES.items() if name not in half}
    parts = {
        "Q4_K_M/t-Q4_K_M-00001-of-00002.gguf": tiny.gguf(half),
        "Q4_K_M/t-Q4_K_M-00002-of-00002.gguf": tiny.gguf(rest),
    }
    hub.add("org/parts", parts)
    weights = imported(importers, "org/parts")
    assert weights.status == "ready", weights.detail
    assert Path(weights.path).name == "t-Q4_K_M-00001-of-00002.gguf"
    assert weights.files.count() == 2


def test_content_is_kept_once_and_removed_with_its_last_use(hub: TestHub, importers: Team) -> None:
    hub.add("org/tiny", {"a.gguf": GGUF})
    hub.add("other/copy", {"b.gguf": GGUF})
    first = imported(importers)
    before = len([path for _, path, _, _ in hub.asked if path.startswith("/lfs/")])
    second = imported(TeamFactory(), "other/copy")
    assert second.status == "ready"
    assert len([path for _, path, _, _ in hub.asked if path.startswith("/lfs/")]) == before, "it was here already"
    assert Path(first.path).stat().st_ino == Path(second.path).stat().st_ino
    assert Blob.objects.count() == 1
    removing.remove(first, actor="ada")
    assert not Path(first.path).exists()
    assert (Path(second.path).read_bytes(), Blob.objects.count()) == (GGUF, 1)
    removing.remove(second, actor="ada")
    assert (Blob.objects.count(), list(store.blob_path("x").parent.iterdir())) == (0, [])
    assert not Offer.objects.exists()


def test_weights_that_a_deployment_uses_are_not_removed(hub: TestHub, importers: Team) -> None:
    library.load_starter()
    hub.add("org/tiny", {"a.gguf": GGUF}, card=library.mit())
    weights = imported(importers)
    made = operations.deploy(importers, model=weights.model, hardware=library.hardware("cpu-small"), actor="ada")
    with pytest.raises(InUse, match=made.endpoint_model):
        removing.remove(weights, actor="ada")
    assert Path(weights.path).exists()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda content: content[:4096] + bytes(4096) + content[8192:], "its sha256 is"),
        (lambda content: content + b"more", "more than the"),
    ],
)
def test_other_bytes_than_promised_are_refused_and_sent_anew(
    hub: TestHub, importers: Team, spoil: Any, says: str
) -> None:
    hub.add("org/tiny", {"a.gguf": GGUF})
    hub.spoil = spoil
    weights = imported(importers)
    assert (weights.status, weights.reason) == ("failed", "wrong_bytes")
    assert says in weights.detail
    assert (weights.bytes_done, Blob.objects.count(), Offer.objects.exists()) == (0, 0, False)
    hub.spoil = bytes
    importing.retry(weights, actor="ada")
    fetching.fetch(weights.pk)
    weights.refresh_from_db()
    assert weights.status == "ready"


def test_small_files_are_held_against_gits_own_hash(hub: TestHub, importers: Team) -> None:
    repo = hub.add("org/safe", dict(SAFE))
    weights = importing.begin(importers, "org/safe", actor="ada")
    repo.instead["tokenizer.json"] = b"[]"
    fetching.fetch(weights.pk)
    weights.refresh_from_db()
    assert (weights.status, weights.reason) == ("failed", "wrong_bytes")
    assert "tokenizer.json: Git's hash of it is" in weights.detail


def test_a_file_that_is_no_weights_is_refused_and_nothing_of_it_kept(hub: TestHub, importers: Team) -> None:
    hub.add("org/tiny", {"a.gguf": b"GGUF" + bytes(100)})
    weights = imported(importers)
    assert (weights.status, weights.reason) == ("failed", "refused")
    assert not store.incoming_folder(weights.pk).exists()


def test_a_team_over_its_quota_is_told_before_anything_comes(hub: TestHub, importers: Team, settings: Any) -> None:
    hub.add("org/tiny", {"a.gguf": GGUF})
    settings.WEIGHTS_TEAM_QUOTA = len(GGUF) - 1
    with pytest.raises(Refused, match="remove weights") as caught:
        importing.begin(importers, "org/tiny", actor="ada")
    assert caught.value.code == "over_quota"


def test_a_disk_without_room_is_told_before_anything_comes(hub: TestHub, importers: Team, settings: Any) -> None:
    hub.add("org/tiny", {"a.gguf": GGUF})
    settings.UPLOADS_KEEP_FREE = 2**62
    with pytest.raises(Refused, match="Ask the operator for room") as caught:
        importing.begin(importers, "org/tiny", actor="ada")
    assert caught.value.code == "disk_full"


def test_the_same_import_twice_is_one(hub: TestHub, importers: Team) -> None:
    hub.add("org/tiny", {"a.gguf": GGUF})
    first = importing.begin(importers, "org/tiny", actor="ada")
    assert importing.begin(importers, "https://huggingface.co/org/tiny", actor="ada") == first
    assert importing.preflight(importers, "org/tiny").already == first


def test_a_licence_is_inherited_and_a_conflict_is_said(hub: TestHub, importers: Team) -> None:
    Licence.objects.create(slug="cc-by-nc-4.0", spdx_id="CC-BY-NC-4.0", name="CC BY-NC 4.0", commercial_use=False)
    Licence.objects.create(slug="mit", spdx_id="MIT", name="MIT", commercial_use=True)
    hub.add("org/base", {"a.gguf": GGUF}, card={"license": "cc-by-nc-4.0"})
    hub.add("org/silent", {"a.gguf": GGUF}, card={"base_model": "org/base"})
    hub.add("org/loud", {"a.gguf": GGUF}, card={"base_model": ["org/base"], "license": "mit"})
    silent, loud = importing.preflight(importers, "org/silent"), importing.preflight(importers, "org/loud")
    assert (silent.licence, silent.is_inherited, silent.licence_warning) == (
        Licence.objects.get(pk="cc-by-nc-4.0"),
        True,
        "",
    )
    assert "does not allow commercial use" in loud.licence_warning
    assert imported(importers, "org/loud").licence_warning == loud.licence_warning


def test_a_lora_adapter_needs_its_base_here(hub: TestHub, importers: Team) -> None:
    hub.add("org/base", {"a.gguf": GGUF})
    hub.add("me/lora", {"lora.gguf": tiny.gguf_adapter()}, card={"base_model": "org/base"})
    alone = imported(importers, "me/lora")
    assert (alone.status, "LoRA adapter of org/base" in alone.detail) == ("failed", True)
    base = imported(importers, "org/base")
    joined = imported(importers, "me/lora")
    assert joined == alone, "what failed is tried again"
    assert (joined.status, joined.kind, joined.base) == ("ready", "adapter", base)
    assert joined.offers.exists(), "deploying it starts it on its base"
    with pytest.raises(InUse, match="the adapter lora"):
        removing.remove(base, actor="ada")


def test_a_hub_that_is_away_is_said_so(hub: TestHub, importers: Team, settings: Any) -> None:
    hub.is_down = True
    with pytest.raises(HubError, match="status 503"):
        importing.preflight(importers, "org/tiny")
    settings.HUB_URL = "http://127.0.0.1:9"
    with pytest.raises(HubError, match="nothing answers there"):
        importing.preflight(importers, "org/tiny")


def test_only_so_many_come_at_once(hub: TestHub, importers: Team, settings: Any) -> None:
    hub.add("org/tiny", {"a.gguf": GGUF})
    weights = importing.begin(importers, "org/tiny", actor="ada")
    settings.IMPORTS_AT_ONCE = 0
    fetching.fetch(weights.pk)
    weights.refresh_from_db()
    assert (weights.status, "Waits for its turn" in weights.detail) == ("downloading", True)


def test_removed_on_the_way_nothing_is_left(hub: TestHub, importers: Team) -> None:
    hub.add("org/tiny", {"a.gguf": GGUF})
    weights = importing.begin(importers, "org/tiny", actor="ada")
    removing.remove(weights, actor="ada")
    fetching.fetch(weights.pk)
    weights.refresh_from_db()
    assert weights.status == "removed"
    assert not store.incoming_folder(weights.pk).exists()
    assert Blob.objects.count() == 0
