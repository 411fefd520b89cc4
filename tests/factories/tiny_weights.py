"""Real weights of a few kilobytes with random numbers, which engines load, and the same with one thing wrong."""

import json
import random
import struct
from collections.abc import Mapping, Sequence
from typing import Any

WIDTH, HEADS, INNER, RANK = 32, 2, 64, 4
SPECIAL = ["<unk>", "<s>", "</s>"]
TOKENS = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *"▁abcdefghijklmnopqrstuvwxyz.,"]
SHAPES = {
    "token_embd.weight": (WIDTH, len(TOKENS)),
    "blk.0.attn_norm.weight": (WIDTH,),
    "blk.0.attn_q.weight": (WIDTH, WIDTH),
    "blk.0.attn_k.weight": (WIDTH, WIDTH),
    "blk.0.attn_v.weight": (WIDTH, WIDTH),
    "blk.0.attn_output.weight": (WIDTH, WIDTH),
    "blk.0.ffn_norm.weight": (WIDTH,),
    "blk.0.ffn_gate.weight": (WIDTH, INNER),
    "blk.0.ffn_up.weight": (WIDTH, INNER),
    "blk.0.ffn_down.weight": (INNER, WIDTH),
    "output_norm.weight": (WIDTH,),
    "output.weight": (WIDTH, len(TOKENS)),
}
LLAMA = {
    "general.architecture": "llama",
    "general.type": "model",
    "general.name": "tiny",
    "llama.context_length": 512,
    "llama.embedding_length": WIDTH,
    "llama.block_count": 1,
    "llama.feed_forward_length": INNER,
    "llama.attention.head_count": HEADS,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.dimension_count": WIDTH // HEADS,
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.scores": [0.0] * len(TOKENS),
    "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, *[1] * (len(TOKENS) - 259)],
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
}


def gguf(
    shapes: Mapping[str, tuple[int, ...]] = SHAPES, metadata: Mapping[str, Any] = LLAMA, *, seed: int = 1
) -> bytes:
    """GGUF version 3, all tensors F32."""
    infos, data = b"", b""
    numbers = random.Random(seed)  # noqa: S311 - not a secret
    for name, shape in shapes.items():
        infos += gguf_info(name, shape, offset=len(data))
        count = 1
        for length in shape:
            count *= length
        data += struct.pack(f"<{count}f", *(numbers.uniform(-0.2, 0.2) for _ in range(count)))
        data += b"\0" * (-len(data) % 32)
    head = gguf_head(len(shapes), metadata) + infos
    return head + b"\0" * (-len(head) % 32) + data


def gguf_head(tensors: int, metadata: Mapping[str, Any] = LLAMA) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", 3, tensors, len(metadata))
    return head + b"".join(_text(key) + _value(value) for key, value in metadata.items())


def gguf_info(name: str, shape: Sequence[int], *, offset: int, kind: int = 0) -> bytes:
    return _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def gguf_adapter(*, width: int = WIDTH, tensor: str = "blk.0.attn_q.weight", architecture: str = "llama") -> bytes:
    """A LoRA adapter for what gguf() makes."""
    said = {"general.architecture": architecture, "general.type": "adapter", "adapter.type": "lora"}
    shapes = {f"{tensor}.lora_a": (width, RANK), f"{tensor}.lora_b": (RANK, width)}
    return gguf(shapes, said | {"adapter.lora.alpha": 8.0})


def safetensors(tensors: Mapping[str, tuple[int, ...]] | None = None) -> bytes:
    """All tensors F32, filled with zeroes."""
    header: dict[str, Any] = {}
    end = 0
    for name, shape in (tensors or {"model.embed_tokens.weight": (8, 4), "model.norm.weight": (4,)}).items():
        size = 4
        for length in shape:
            size *= length
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    return safetensors_of(header, bytes(end))


def safetensors_of(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _value(value: Any) -> bytes:
    match value:
        case str():
            return struct.pack("<I", 8) + _text(value)
        case int():
            return struct.pack("<II", 4, value)
        case float():
            return struct.pack("<If", 6, value)
        case [str(), *_]:
            return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_text, value))
        case [float(), *_]:
            return struct.pack("<IIQ", 9, 6, len(value)) + struct.pack(f"<{len(value)}f", *value)
        case _:
            return struct.pack("<IIQ", 9, 5, len(value)) + struct.pack(f"<{len(value)}i", *value)
