"""Real engines with tiny weights of random numbers: what an option and an adapter do to the answers.

vLLM's tests run where VLLM_PYTHON names the Python of an environment that has it (docs/engines.md), else they are
skipped, visibly.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from accounts import sealing
from accounts.models import Team
from catalog.models import Hardware, Weights
from deployments import operations, probing, updating
from deployments.engines import Adapter, Job, Place, choose
from deployments.lifecycle import Status
from deployments.models import Deployment
from tests.deployments.portals import Portal, portal
from tests.factories import tiny_weights as tiny
from tests.factories.accounts import TeamFactory
from tests.factories.deployments import hardware, own_weights

pytestmark = pytest.mark.django_db(transaction=True)
VLLM_PYTHON = os.environ.get("VLLM_PYTHON", "")
needs_vllm = pytest.mark.skipif(not VLLM_PYTHON, reason="VLLM_PYTHON is not set: no vLLM to try (docs/engines.md)")
SMALL = {"context_tokens": 256, "slots": 1}
CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 8, "temperature": 0}
COMPLETION = {"prompt": "hello", "max_tokens": 8, "temperature": 0}


@pytest.fixture
def real_portal(settings: Any, tmp_path: Path) -> Iterator[Portal]:
    with portal(settings, tmp_path / "engines", backend="deployments.backends.local.LocalBackend") as found:
        yield found


@pytest.fixture
def team() -> Team:
    found: Team = TeamFactory()
    return found


@pytest.fixture
def cpu(db: None) -> Hardware:
    return hardware("cpu", gpus=0, memory_gib=16)


def ask(row: Deployment, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
    """Its engine, as the gateway asks it."""
    replica = row.replicas.get(exited_at=None)
    headers = {"authorization": f"Bearer {sealing.unseal(replica.sealed_key)}"}
    how = {"json": {"model": row.endpoint_model} | body} if body else {}
    return httpx.request("POST" if body else "GET", replica.address + path, headers=headers, timeout=120, **how)


def said(row: Deployment) -> str:
    answer = ask(row, "/v1/completions", COMPLETION)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["text"])


def test_a_lora_on_its_base_changes_the_answer_and_an_update_takes_it_off_again(
    real_portal: Portal, team: Team, cpu: Hardware, tmp_path: Path
) -> None:
    base = own_weights(team, tmp_path / "base", {"m.gguf": tiny.gguf()})
    strong = tiny.gguf_adapter(tensor="blk.0.attn_output.weight", alpha=64.0)
    lora = own_weights(team, tmp_path / "lora", {"l.gguf": strong}, base=base)
    wish: dict[str, Any] = {"hardware": cpu, "actor": "t", "options": SMALL, "min_replicas": 1}
    plain = real_portal.until(operations.deploy(team, model=base.model, name="plain", **wish), Status.READY)
    tuned = real_portal.until(operations.deploy(team, model=lora.model, name="tuned", **wish), Status.READY)
    without = said(plain)
    assert said(plain) == without, "it answers the same twice"
    assert said(tuned) != without
    updating.update(plain, actor="t", adapters=[str(lora.pk)])
    real_portal.settle(plain, seconds=30)
    assert (plain.status, said(plain)) == (Status.READY, said(tuned)), "the adapter on the base is the adapter's model"
    updating.update(plain, actor="t", adapters=[])
    real_portal.settle(plain, seconds=30)
    assert said(plain) == without


def test_embeddings_a_template_and_the_metrics_that_we_read(
    real_portal: Portal, team: Team, cpu: Hardware, tmp_path: Path
) -> None:
    weights = own_weights(team, tmp_path / "base", {"m.gguf": tiny.gguf()})
    template = "{% for m in messages %}{{ m['content'] }}{{port}}{tag}{% endfor %}"
    more = {"embeddings": True, "pooling": "mean", "chat_template": template, "flash_attention": "on"}
    row = operations.deploy(team, model=weights.model, hardware=cpu, actor="t", options=SMALL | more, min_replicas=1)
    real_portal.until(row, Status.READY)
    vector = ask(row, "/v1/embeddings", {"input": "hello"}).json()["data"][0]["embedding"]
    assert len(vector) == tiny.WIDTH
    assert ask(row, "/v1/chat/completions", CHAT).status_code == 200
    applied = ask(row, "/apply-template", {"messages": CHAT["messages"]}).json()["prompt"]
    assert applied == "hello{tag}"
    assert probing.problem_with(row.replicas.get(exited_at=None)) == ""
    _tells_all_metrics(row)
    assert httpx.get(f"{row.replicas.get().address}/v1/models").status_code in {200, 401}
    keyless = httpx.post(f"{row.replicas.get().address}/v1/completions", json=COMPLETION)
    assert keyless.status_code == 401


def test_the_peak_of_an_engine_is_kept_when_it_has_ended(
    real_portal: Portal, team: Team, cpu: Hardware, tmp_path: Path
) -> None:
    weights = own_weights(team, tmp_path / "base", {"m.gguf": tiny.gguf()})
    row = operations.deploy(team, model=weights.model, hardware=cpu, actor="t", options=SMALL, min_replicas=1)
    real_portal.until(row, Status.READY)
    operations.stop(row, actor="t")
    real_portal.settle(row, seconds=20)
    peak = row.replicas.get().peak_bytes
    assert peak
    assert 20 * 1024**2 < peak < 500 * 1024**2


def _tells_all_metrics(row: Deployment) -> None:
    told = {line.split(" ")[0].split("{")[0] for line in ask(row, "/metrics").text.splitlines()}
    metrics = choose(row.engine).metrics
    names = [metrics.running, metrics.waiting, metrics.prompt_tokens, metrics.generated_tokens, metrics.cache_use]
    assert {name for name in names if name} <= told


@needs_vllm
def test_vllm_s_own_parser_takes_every_option(settings: Any, tmp_path: Path) -> None:
    """All options at once, and each choice by itself."""
    settings.VLLM_PYTHON = VLLM_PYTHON
    engine = choose("vllm")
    place = Place(gpus=2)
    wishes: list[dict[str, Any]] = [
        {
            "context_tokens": 512, "slots": 3, "gpu_memory_utilization": 0.5, "tensor_parallel_size": 2,
            "prefix_caching": False, "enforce_eager": True, "embeddings": True, "cpu_cache_gib": 2,
        },
        *({option.name: value} for option in engine.options for value in getattr(option, "choices", ())),
    ]  # fmt: skip
    job = Job("r-1", str(tmp_path), "t/n", "k", 2, gpus=2, adapters=(Adapter(str(tmp_path), rank=8),))
    lines = [engine.spec(job, engine.check(wish, place)).argv[4:] for wish in wishes]
    script = tmp_path / "parse.py"
    script.write_text(PARSE.format([[part.replace("{port}", "8000") for part in line] for line in lines]))
    done = subprocess.run([VLLM_PYTHON, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert f"parsed {len(lines)}" in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]


PARSE = """
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
lines = {!r}
parser = make_arg_parser(FlexibleArgumentParser())
for line in lines:
    parser.parse_args(line)
print("parsed", len(lines))
"""


@needs_vllm
def test_tiny_safetensors_answer_by_vllm_and_a_lora_changes_the_answer(
    real_portal: Portal, settings: Any, team: Team, cpu: Hardware, tmp_path: Path
) -> None:
    settings.VLLM_PYTHON = VLLM_PYTHON
    if why := choose("vllm").missing(gpus=0):
        pytest.skip(why)
    base = own_weights(team, tmp_path / "soft", tiny.llama_folder())
    lora = own_weights(team, tmp_path / "soft-lora", tiny.peft_folder(), base=base)
    options = SMALL | {"slots": 2, "enforce_eager": True}
    wish: dict[str, Any] = {"hardware": cpu, "actor": "t", "min_replicas": 1, "start_deadline_s": 300}
    answers = []
    for weights in (base, lora):
        row = operations.deploy(team, model=weights.model, options=options, **wish)
        real_portal.until(row, Status.READY, seconds=200)
        answers.append(said(row))
        if weights == base:
            _tells_all_metrics(row)
            assert httpx.post(f"{row.replicas.get().address}/v1/completions", json=COMPLETION).status_code == 401
            assert probing.problem_with(row.replicas.get(exited_at=None)) == ""
        operations.stop(row, actor="t")
        real_portal.settle(row, seconds=30)
        assert row.status == Status.STOPPED
        assert (row.replicas.get().peak_bytes or 0) > 500 * 1024**2, "all its processes are counted"
    assert answers[0] != answers[1]
    assert Weights.objects.get(pk=base.pk).facts["layers"] == 1
