"""What weights say of themselves in their files, as far as it decides what they need: read once, kept on the row.

Pure but for `known`. Keys: parameters, context_tokens, layers, kv_heads (one number, or one for each layer), key_width,
value_width, window_tokens (attention looks back no further, in some layers at least), vocabulary, width, dtype_bytes.
What a file does not say is left out.
"""

import functools
import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from catalog.errors import BadWeights
from catalog.models import Weights
from catalog.uploads import headers
from catalog.uploads.headers import Header

DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1}
# A model that sees or hears keeps what is said of its language model in one of these.
INNER_CONFIGS = ("text_config", "llm_config", "language_config")


def of(kind: str, tensors: Mapping[str, tuple[int, ...]], said: Mapping[str, Any]) -> dict[str, Any]:
    """From a GGUF's metadata, or from the config.json beside safetensors (`said`), and from the tensors' shapes."""
    found = _of_gguf(tensors, said) if kind == "gguf" else _of_config(said)
    if tensors:
        found["parameters"] = sum(prod(shape) for shape in tensors.values())
        found["tensors"] = len(tensors)
    return {name: value for name, value in found.items() if value is not None}


def known(weights: Weights) -> dict[str, Any]:
    """The facts on the row; those that were never read are read from the files now and kept. {} if that can't be."""
    if "layers" in weights.facts or "unread" in weights.facts or not weights.path:
        return weights.facts
    try:
        facts = Path(weights.path).stat()
        read = _read(weights.path, weights.format, facts.st_mtime_ns)
    except (OSError, BadWeights, ValueError):
        return weights.facts
    # Adapters have no layers of their own: that they were read is remembered too.
    weights.facts = read | weights.facts | ({} if "layers" in read else {"unread": True})
    Weights.objects.filter(pk=weights.pk).update(facts=weights.facts)
    return weights.facts


@functools.lru_cache(maxsize=64)
def _read(path: str, kind: str, _changed_ns: int) -> dict[str, Any]:
    place = Path(path)
    if kind == "gguf":
        header = headers.read_gguf(place)
        return of(kind, header.tensors, header.metadata)
    folder = place if place.is_dir() else place.parent
    parts: list[Header] = [headers.read_safetensors(part) for part in sorted(folder.glob("*.safetensors"))]
    config = folder / "config.json"
    said = json.loads(config.read_bytes()) if config.exists() else {}
    tensors = {name: shape for part in parts for name, shape in part.tensors.items()}
    return of(kind, tensors, said if isinstance(said, dict) else {})


def _of_gguf(tensors: Mapping[str, tuple[int, ...]], said: Mapping[str, Any]) -> dict[str, Any]:
    architecture = said.get("general.architecture")

    def number(name: str) -> int | None:
        return _count(said.get(f"{architecture}.{name}"))

    heads, width = number("attention.head_count"), number("embedding_length")
    per_layer = said.get(f"{architecture}.attention.head_count_kv")
    head_width = width // heads if width and heads else None
    embeddings = tensors.get("token_embd.weight", ())
    return {
        "context_tokens": number("context_length"),
        "layers": number("block_count"),
        "kv_heads": _counts(per_layer) or _count(per_layer) or heads,
        "key_width": number("attention.key_length") or head_width,
        "value_width": number("attention.value_length") or head_width,
        "window_tokens": number("attention.sliding_window"),
        "vocabulary": embeddings[-1] if len(embeddings) == 2 else None,
        "width": width,
    }


def _of_config(said: Mapping[str, Any]) -> dict[str, Any]:
    inner: Mapping[str, Any] = next((said[name] for name in INNER_CONFIGS if isinstance(said.get(name), dict)), {})
    whole = {**said, **inner}

    def number(name: str) -> int | None:
        return _count(whole.get(name))

    heads, width = number("num_attention_heads"), number("hidden_size")
    head_width = number("head_dim") or (width // heads if width and heads else None)
    latent = number("kv_lora_rank")
    dtype = str(whole.get("dtype") or whole.get("torch_dtype") or "").removeprefix("torch.")
    return {
        "context_tokens": number("max_position_embeddings"),
        "layers": number("num_hidden_layers"),
        # Latent attention (DeepSeek's) keeps one compressed vector for all heads, and no values beside it.
        "kv_heads": 1 if latent else number("num_key_value_heads") or heads,
        "key_width": latent + (number("qk_rope_head_dim") or 0) if latent else head_width,
        "value_width": 0 if latent else head_width,
        "window_tokens": number("sliding_window") if whole.get("use_sliding_window", True) else None,
        "vocabulary": number("vocab_size"),
        "width": width,
        "dtype_bytes": DTYPE_BYTES.get(dtype),
        "quantization": _method(whole.get("quantization_config")),
        "lora_rank": number("r") if said.get("peft_type") == "LORA" else None,
    }


def _method(said: Any) -> str | None:
    """A word that a database can keep: the file is a stranger's."""
    method = said.get("quant_method") if isinstance(said, dict) else None
    return method if isinstance(method, str) and method.isprintable() else None


def _count(said: Any) -> int | None:
    return said if type(said) is int and 0 < said < 2**53 else None


def _counts(said: Any) -> list[int] | None:
    fine = isinstance(said, list) and said and all(type(item) is int and 0 <= item < 2**31 for item in said)
    return said if fine else None
