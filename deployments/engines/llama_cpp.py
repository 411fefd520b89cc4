"""llama.cpp, as xllamacpp ships it: GGUF weights on a CPU or a GPU."""

import importlib.metadata
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deployments.engines.base import (
    Choice,
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
from deployments.sizing import MIB, Demand, Range

HOST = Path(__file__).with_name("llama_cpp_host.py")
# Bytes of an element of the cache: GGML's block sizes (ggml-common.h).
CACHE_BYTES = {
    "f16": 2.0, "bf16": 2.0, "f32": 4.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32, "q4_1": 20 / 32,
    "q4_0": 18 / 32, "iq4_nl": 18 / 32,
}  # fmt: skip
PLAIN_CACHE = frozenset({"f16", "bf16", "f32"})
UBATCH = 512
# A block of a cache below 16 bits holds so many numbers; a head's width has to be a multiple.
CACHE_BLOCK = 32
# The process itself: the interpreter and llama.cpp's libraries. A model of a few kilobytes was seen to take 34 MiB.
PROCESS = Range(30 * MIB, 50 * MIB, 150 * MIB)
OPTIONS: tuple[Option, ...] = (
    Number("context_tokens", "Context tokens for each call", 2048, 256, 131_072),
    Number("slots", "Calls at once", 4, 1, 64, "More wait in the engine's queue. Each holds a cache of its own."),
    Choice("cache_type_k", "Cache of keys", "f16", tuple(CACHE_BYTES), "Fewer bits, less memory, a little less exact."),
    Choice("cache_type_v", "Cache of values", "f16", tuple(CACHE_BYTES), "Below 16 bits it needs flash attention."),
    Choice("flash_attention", "Flash attention", "auto", ("auto", "on", "off")),
    Number("gpu_layers", "Layers on the GPU", -1, -1, 999, "-1: as many as fit. On a CPU none."),
    Number("threads", "Threads", 0, 0, 256, "0: as many as the portal gives an engine."),
    Number("prompt_cache_mib", "Cache of past prompts, MiB", 256, 0, 65_536, "In RAM, beside the slots' own."),
    Switch("embeddings", "Answer /v1/embeddings", False, "Beside chat and completions."),
    Choice("pooling", "Pooling of embeddings", "model", ("model", "mean", "cls", "last"), "model: as its file says."),
    Text("chat_template", "Chat template", help="Jinja, or the name of one of llama.cpp's own. Empty: the model's."),
)


class LlamaCpp:
    """`context_tokens` is that of each call; llama.cpp divides its own by slots."""

    name = "llama_cpp"
    label = "llama.cpp"
    options = OPTIONS
    most_adapters = 8
    scales_adapters = True
    reads_media = False  # what turns a picture into tokens is a file of its own, which is not loaded
    metrics = Metrics(
        running="llamacpp:requests_processing",
        waiting="llamacpp:requests_deferred",
        prompt_tokens="llamacpp:prompt_tokens_total",
        generated_tokens="llamacpp:tokens_predicted_total",
    )

    def missing(self, *, gpus: int) -> str:
        return "" if self.version() else "llama.cpp is not installed here: install the package xllamacpp."

    def version(self) -> str:
        try:
            return importlib.metadata.version("xllamacpp")
        except importlib.metadata.PackageNotFoundError:
            return ""

    def check(self, options: Mapping[str, Any], place: Place) -> dict[str, Any]:
        found = read_options(options, bounded_context(OPTIONS, place.max_context_tokens), label=self.label)
        if found.get("flash_attention") == "off" and found.get("cache_type_v", "f16") not in PLAIN_CACHE:
            raise BadOption("cache_type_v", "cache_type_v below 16 bits needs flash attention: auto or on")
        for name, width in (("cache_type_k", place.key_width), ("cache_type_v", place.value_width)):
            if found.get(name, "f16") not in PLAIN_CACHE and width and width % CACHE_BLOCK:
                raise BadOption(name, f"{name} below 16 bits needs heads of {CACHE_BLOCK}, 64 ... numbers, not {width}")
        if "pooling" in found and not found.get("embeddings"):
            raise BadOption("pooling", "pooling is for embeddings: ask for embeddings too")
        return found

    def demand(self, load: Load, options: Mapping[str, Any]) -> Demand:
        slots = options["slots"]
        compute = _compute_bytes(load)
        prompts = options.get("prompt_cache_mib", 256) * MIB
        return Demand(
            weights=load.size_bytes + load.adapter_bytes,
            weights_text="the files, as they lie on the disk",
            context_tokens=options["context_tokens"],
            calls=(slots, slots, slots),
            key_bytes=CACHE_BYTES[options.get("cache_type_k", "f16")],
            value_bytes=CACHE_BYTES[options.get("cache_type_v", "f16")],
            overhead=PROCESS + Range(0, compute // 8, compute + prompts),
            overhead_text=f"the process, buffers for {UBATCH} tokens at once; at most the cache of past prompts too",
        )

    def probe(self, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        if options.get("embeddings"):
            return "/v1/embeddings", {"input": "Say hello."}
        messages = [{"role": "user", "content": "Say hello."}]
        return "/v1/chat/completions", {"messages": messages, "max_tokens": 4, "temperature": 0}

    def spec(self, job: Job, options: Mapping[str, Any]) -> LaunchSpec:
        threads = options.get("threads") or job.threads
        more: list[str] = []
        for name in ("cache_type_k", "cache_type_v", "flash_attention", "prompt_cache_mib", "pooling"):
            if name in options:
                more += [f"--{name.replace('_', '-')}", str(options[name])]
        more += ["--gpu-layers", str(options.get("gpu_layers", -1) if job.gpus else 0)]
        more += ["--embeddings"] if options.get("embeddings") else []
        for adapter in job.adapters:
            more += ["--lora", json.dumps([adapter.path, adapter.scale])]
        # A template may hold braces, which the backend would fill in, and be longer than an argument may be.
        template = options.get("chat_template")
        argv = (
            sys.executable, str(HOST), "--tag={tag}", "--weights", job.weights_path, "--served-name", job.served_name,
            "--context", str(options["context_tokens"] * options["slots"]), "--slots", str(options["slots"]),
            "--threads", str(threads), "--port", "{port}", "--key-file", "{key_file}", *more,
        )  # fmt: skip
        env = (*job.env, ("MODELPORT_CHAT_TEMPLATE", template)) if template else job.env
        return LaunchSpec(name=job.name, argv=argv, key=job.key, env=env)


def _compute_bytes(load: Load) -> int:
    """Logits and activations of a batch in 32 bits: the most that the graph of one can take."""
    if load.shape is None:
        return 256 * MIB
    return UBATCH * (load.shape.vocabulary + 16 * load.shape.width) * 4
