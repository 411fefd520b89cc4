"""The deploy page, its estimate and its dry run; the same by API and by command."""

import json
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from django.utils import timezone

from accounts import keys
from accounts.models import Membership, Role
from catalog import measurements, removing
from catalog.errors import InUse
from catalog.measurements import Figures
from catalog.models import Hardware
from deployments import operations, preparing, sizing
from deployments.errors import BadOption, NotDeployable
from deployments.models import Deployment, Replica, Version
from tests.factories import tiny_weights as tiny
from tests.factories.accounts import MembershipFactory, TeamFactory
from tests.factories.deployments import hardware, own_weights, smollm2

pytestmark = pytest.mark.django_db
PAGE = "/deployments/new?model=smollm2-135m-instruct"
FORM = {
    "name": "mine", "revision": "q4_1", "hardware": "cpu-small", "min_replicas": "0", "max_replicas": "2",
    "idle_window_s": "60", "start_deadline_s": "90", "context_tokens": "1024", "slots": "2", "cache_type_k": "q8_0",
    "env": "# a remark\nLEVEL=3\n\nEMPTY=", "secret_name_0": "HF_TOKEN", "secret_value_0": " s3cr3t ",
}  # fmt: skip
WISH = {"model": "smollm2-135m-instruct", "hardware": "cpu-small", "name": "mine"}


@pytest.fixture
def member(client: Client) -> Membership:
    smollm2()
    found: Membership = MembershipFactory()
    client.force_login(found.user)
    return found


def post(client: Client, key: str, body: Any, path: str = "", method: str = "POST") -> Any:
    return client.generic(
        method, f"/api/v1/deployments{path}", json.dumps(body), content_type="application/json",
        headers={"authorization": f"Bearer {key}"},
    )  # fmt: skip


def test_all_that_was_filled_in_is_what_is_deployed(client: Client, member: Membership) -> None:
    answer = client.post(PAGE, FORM)
    assert answer.status_code == 302, answer.context["form"].errors
    row = Deployment.objects.get()
    assert (row.name, row.max_replicas, row.idle_window_s, row.start_deadline_s) == ("mine", 2, 60, 90)
    assert row.options == {"context_tokens": 1024, "slots": 2, "cache_type_k": "q8_0"}
    assert row.target_concurrency == 2
    version = row.version
    assert version
    assert version.env == {"LEVEL": "3", "EMPTY": ""}
    assert version.secret_names == ["HF_TOKEN"]


def test_what_is_left_empty_is_as_it_would_be_by_the_api(client: Client, member: Membership) -> None:
    assert client.post(PAGE, {"hardware": "cpu-small"}).status_code == 302
    _, key = keys.issue(member.team, name="k")
    assert post(client, key, WISH | {"name": "other"}).status_code == 201
    one, two = Deployment.objects.order_by("created_at")
    same = (*operations.ELASTIC, "options")
    assert [getattr(one, name) for name in same] == [getattr(two, name) for name in same]


def test_a_dry_run_shows_the_plan_and_makes_nothing(client: Client, member: Membership) -> None:
    page = client.post(PAGE, FORM | {"dry_run": "1"})
    text = page.content.decode()
    assert page.status_code == 200
    assert "Dry run: it would be deployed" in text
    assert "llama_cpp_host.py" in text
    assert "--cache-type-k q8_0" in text
    assert "HF_TOKEN" in text
    assert "s3cr3t" not in text
    assert not Deployment.objects.exists()
    operations.deploy(member.team, model=smollm2()[0], hardware=smollm2()[1], actor="t", name="mine")
    text = client.post(PAGE, FORM | {"dry_run": "1"}).content.decode()
    assert "Dry run: it would be refused" in text
    assert "is running already" in text
    assert Deployment.objects.count() == 1


def test_the_estimate_follows_what_is_typed(client: Client, member: Membership) -> None:
    hx = {"hx-request": "true"}
    parts = [client.post(PAGE, FORM | {"context_tokens": str(tokens)}, headers=hx) for tokens in (1024, 8192)]
    texts = [part.content.decode() for part in parts]
    model, cpu = smollm2()
    loaded = preparing.loads(model.weights.get())
    few, many = ({"context_tokens": tokens, "slots": 2, "cache_type_k": "q8_0"} for tokens in (1024, 8192))
    few_bytes, many_bytes = (preparing.site_of(loaded, cpu, options).estimate.total.likely for options in (few, many))
    assert many_bytes - few_bytes == 2 * 7168 * 30 * 3 * (64 * 34 // 32 + 64 * 2)
    for text, needs in zip(texts, (few_bytes, many_bytes), strict=True):
        assert f"<b>{sizing.gib(needs)}</b> of 4 GiB" in text
    assert all("<html" not in text and 'id="estimate"' in text and "hx-swap-oob" in text for text in texts)
    assert "$0.072 / h with all 2" in texts[0]
    wrong = client.post(PAGE, FORM | {"cache_type_v": "q4_0", "flash_attention": "off"}, headers=hx).content.decode()
    assert "needs flash attention" in wrong
    assert not Deployment.objects.exists()


def test_hardware_that_is_too_small_is_greyed_with_both_numbers(client: Client, member: Membership) -> None:
    hardware("crumb", gpus=0, memory_gib=1)
    form = FORM | {"context_tokens": "8192", "slots": "32", "cache_type_k": "f16"}
    page = client.post(PAGE, form | {"dry_run": "1", "hardware": "crumb"})
    text = page.content.decode()
    site = next(one for one in page.context["sites"] if one.hardware.slug == "crumb")
    assert site.why_not.startswith("Too large: at least")
    assert f"needs {site.needs}, has 1 GiB" in text
    assert 'class="choice no"><input type="radio" name="hardware" id="hardware-crumb"' in text
    assert "it would be refused" in text
    assert client.post(PAGE, form | {"hardware": "crumb"}).status_code == 400
    assert not Deployment.objects.exists()


BAD_FORMS = [
    ({"hardware": "none"}, "hardware"),
    ({"hardware": "h100"}, "hardware"),
    ({"revision": "none"}, "revision"),
    ({"name": "Bad Name"}, "name"),
    ({"min_replicas": "3"}, "min_replicas"),
    ({"max_replicas": "99"}, "max_replicas"),
    ({"context_tokens": "1000000"}, "context_tokens"),
    ({"cache_type_k": "f8"}, "cache_type_k"),
    ({"env": "NOEQUALS"}, "env"),
    ({"env": "A=1\nA=2"}, "env"),
    ({"env": "LD_PRELOAD=/x.so"}, "env"),
    ({"secret_name_1": "B"}, "secret_value_1"),
    ({"secret_value_1": "b"}, "secret_name_1"),
]


@pytest.mark.parametrize(("change", "field"), BAD_FORMS)
def test_what_is_wrong_is_told_at_its_field_and_no_secret_comes_back(
    client: Client, member: Membership, change: dict[str, str], field: str
) -> None:
    Hardware.objects.create(slug="h100", name="One H100", memory_gib=80, gpus=1)
    page = client.post(PAGE, FORM | change)
    assert page.status_code == 400
    assert field in page.context["form"].errors
    assert "s3cr3t" not in page.content.decode()
    assert not Deployment.objects.exists()


def test_a_bad_secret_s_name_is_told_without_its_value(client: Client, member: Membership) -> None:
    page = client.post(PAGE, FORM | {"secret_name_0": "PYTHONPATH"})
    assert page.status_code == 400
    assert "PYTHONPATH can&#x27;t be set" in page.content.decode()
    assert "s3cr3t" not in page.content.decode()


def test_uploaded_safetensors_have_a_page_that_says_what_is_missing(
    client: Client, member: Membership, tmp_path: Path, settings: Any
) -> None:
    settings.VLLM_PYTHON = ""
    Hardware.objects.create(slug="l4", name="One L4", memory_gib=24, gpus=1)
    weights = own_weights(member.team, tmp_path / "soft", tiny.llama_folder())
    page = client.get(f"/deployments/new?model={weights.model.slug}")
    text = page.content.decode()
    assert page.status_code == 200
    assert "No backend of this portal offers it" in text
    assert "vLLM is not installed here" in text
    assert "Nothing here can run it" in text
    assert page.context["site"] is None


def test_a_million_tokens_has_a_price_once_its_speed_was_measured(client: Client) -> None:
    model, hardware = smollm2()
    _, key = keys.issue(TeamFactory(), name="k")
    figures = Figures(4, 8, 200, 48, 100.0, 1000.0, 20.0)
    measurements.record(
        figures, run=uuid4(), model=model, weights=model.weights.get(), hardware=hardware, engine="llama_cpp",
        engine_version="1", options={}, disturbed=False, measured_at=timezone.now(),
    )  # fmt: skip
    told = post(client, key, WISH | {"dry_run": True}).json()
    # 0.036 / 3600 s = 0.00001 a second; a million at 20 a second take 50,000 s
    assert told["price_per_million_tokens"] == "0.5"


def test_an_api_dry_run_tells_the_same_and_makes_nothing(client: Client) -> None:
    smollm2()
    team = TeamFactory()
    _, key = keys.issue(team, name="k")
    wish = WISH | {"dry_run": True, "env": {"LEVEL": "3"}, "secrets": {"HF_TOKEN": "s3cr3t"}, "max_replicas": 3}
    answer = post(client, key, wish)
    told = answer.json()
    assert (answer.status_code, told["would_deploy"], told["refused"]) == (200, True, [])
    assert (told["endpoint_model"], told["fit"]) == (f"{team.slug}/mine", "fits")
    assert (told["price_per_hour"], told["price_per_hour_at_most"]) == ("0.036", "0.108")
    assert told["price_per_million_tokens"] is None
    assert told["environment"] == ["HF_TOKEN", "LEVEL"]
    memory = told["memory"]
    assert memory["low_bytes"] <= memory["likely_bytes"] <= memory["high_bytes"] <= memory["has_bytes"]
    assert sum(part["bytes"] for part in memory["parts"]) == memory["likely_bytes"]
    assert "s3cr3t" not in answer.content.decode()
    assert not any(part.startswith("/") for part in told["command"]), "no folder of the portal's machine"
    refused = post(client, key, WISH | {"dry_run": True, "options": {"slots": 0}}).json()
    assert (refused["would_deploy"], refused["refused"][0]["field"]) == (False, "slots")
    assert not Deployment.objects.exists()


BAD_BODIES = [
    ({"env": {"LD_PRELOAD": "x"}}, "env"),
    ({"secrets": {"PATH": "s3cr3t"}}, "secrets"),
    ({"env": {"A": "1"}, "secrets": {"A": "s3cr3t"}}, "secrets"),
    ({"env": ["A=1"]}, "env"),
    ({"adapters": ["none"]}, "adapters"),
    ({"adapters": ["x=0"]}, "adapters"),
    ({"revision": "none"}, "revision"),
    ({"options": {"trust_remote_code": True}}, "trust_remote_code"),
]


@pytest.mark.parametrize(("body", "field"), BAD_BODIES)
def test_a_bad_body_is_told_by_field(client: Client, body: dict[str, Any], field: str) -> None:
    smollm2()
    _, key = keys.issue(TeamFactory(), name="k")
    answer = post(client, key, WISH | body)
    assert answer.status_code == 400
    assert field in answer.json()["errors"]
    assert "s3cr3t" not in answer.content.decode()
    assert not Deployment.objects.exists()


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("deploy", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_deploys_and_takes_secrets_from_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    smollm2()
    team = TeamFactory()
    asked = ["--team", team.slug, "--model", "smollm2-135m-instruct", "--hardware", "cpu-small", "--name", "c"]
    with pytest.raises(CommandError, match="set it there"):
        run(*asked, "--secret", "HF_TOKEN")
    monkeypatch.setenv("HF_TOKEN", "s3cr3t")
    more = ["--option", "slots=2", "--option", "cache_type_k=q8_0", "--env", "A=b=c", "--secret", "HF_TOKEN"]
    plan = run(*asked, *more, "--dry-run")
    assert json.loads(plan)["options"] == {"context_tokens": 2048, "slots": 2, "cache_type_k": "q8_0"}
    assert "s3cr3t" not in plan
    assert not Deployment.objects.exists()
    assert run(*asked, *more, "--max-replicas", "2").strip() == f"{team.slug}/c"
    row = Deployment.objects.get()
    assert row.version
    assert (row.max_replicas, row.version.env, row.version.secret_names) == (2, {"A": "b=c"}, ["HF_TOKEN"])
    for bad in (["--option", "slots"], ["--option", "turbo=1"], ["--hardware", "none"], ["--team", "none"]):
        with pytest.raises(CommandError):
            run(*asked, *bad)


def test_an_adapter_runs_on_its_base_and_on_no_other(tmp_path: Path) -> None:
    team = TeamFactory()
    _, cpu = smollm2()
    base = own_weights(team, tmp_path / "base", {"m.gguf": tiny.gguf()})
    other = own_weights(team, tmp_path / "other", {"m.gguf": tiny.gguf(seed=3)})
    lora = own_weights(team, tmp_path / "lora", {"l.gguf": tiny.gguf_adapter()}, base=base)
    row = operations.deploy(team, model=lora.model, hardware=cpu, actor="t", name="a")
    assert (row.weights, row.engine) == (lora, "llama_cpp")
    assert row.version
    loaded = preparing.of_version(row.version)
    assert (loaded.base, [one.weights for one in loaded.adapters]) == (base, [lora])
    row = operations.deploy(team, model=base.model, hardware=cpu, actor="t", name="b", adapters=[f"{lora.pk}=0.5"])
    assert row.version
    assert [(one.weights, one.scale) for one in preparing.of_version(row.version).adapters] == [(lora, 0.5)]
    assert removing.users_of(lora) == [f"{team.slug}/a", f"{team.slug}/b"]
    Deployment.objects.filter(name="a").update(status="stopped")
    with pytest.raises(InUse, match=f"used by {team.slug}/b"):
        removing.remove(lora, actor="t")
    for model, adapters in ((other.model, [str(lora.pk)]), (lora.model, [str(lora.pk)]), (base.model, [str(base.pk)])):
        with pytest.raises(BadOption) as told:
            operations.deploy(team, model=model, hardware=cpu, actor="t", name="c", adapters=adapters)
        assert told.value.option == "adapters"
    stranger = TeamFactory()
    with pytest.raises(BadOption, match="no LoRA adapter"):
        operations.deploy(stranger, model=smollm2()[0], hardware=cpu, actor="t", adapters=[str(lora.pk)])
    with pytest.raises(NotDeployable):
        operations.deploy(stranger, model=lora.model, hardware=cpu, actor="t")


def test_a_measured_peak_is_what_the_next_one_is_told(client: Client, member: Membership) -> None:
    model, cpu = smollm2()
    row = operations.deploy(member.team, model=model, hardware=cpu, actor="t", name="first")
    peak = 700 * 1024**2
    Replica.objects.create(
        deployment=row, version=row.version, peak_bytes=peak, started_at=row.created_at, ready_at=row.created_at
    )
    loaded = preparing.loads(row.weights)
    same = preparing.site_of(loaded, cpu, row.options).estimate
    assert (same.total.likely, same.measured_as_it_is) == (peak, True)
    more = preparing.site_of(loaded, cpu, row.options | {"context_tokens": 4096}).estimate
    assert more.total.likely == peak + 4 * 2048 * 30 * 3 * 128 * 2
    assert "Measured on an engine" in client.get(PAGE).content.decode()
    big = hardware("big", gpus=1)
    assert preparing.site_of(loaded, big, row.options).estimate.measured is None, "a GPU's memory is not seen"


def test_viewers_may_not_ask_for_the_form(client: Client) -> None:
    smollm2()
    client.force_login(MembershipFactory(role=Role.VIEWER).user)
    assert client.get(PAGE).status_code == 403
    assert client.post(PAGE, FORM | {"dry_run": "1"}).status_code == 403
    assert not Version.objects.exists()


@pytest.mark.parametrize("path", ["deployments", "weights/imports", "prompt-sets"])
@pytest.mark.parametrize(
    "body", ["[" * 100_000, json.dumps(WISH | {"options": {"chat_template": "\ud800"}}), json.dumps({"\ud800": 1})]
)
def test_a_body_that_nothing_can_keep_is_a_bad_request(
    client: Client, member: Membership, path: str, body: str
) -> None:
    _, key = keys.issue(member.team, name="k")
    answer = client.post(f"/api/v1/{path}", body, "application/json", headers={"authorization": f"Bearer {key}"})
    assert (answer.status_code, answer.json()["code"]) == (400, "parse_error")
