"""Real weights of a few kilobytes with random numbers, which engines load, and the same with one thing wrong."""

import json
import random
import struct
from collections.abc import Mapping, Sequence
from typing import Any

WIDTH, HEADS, INNER, RANK = 32, 2, 64, 4
HF_WIDTH = 64
HF_SPECIAL = ["<s>", "</s>", "<unk>"]
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


def gguf_adapter(
    *, width: int = WIDTH, tensor: str = "blk.0.attn_q.weight", architecture: str = "llama", alpha: float = 8.0
) -> bytes:
    """A LoRA adapter for what gguf() makes; a large `alpha` changes every answer."""
    said = {"general.architecture": architecture, "general.type": "adapter", "adapter.type": "lora"}
    shapes = {f"{tensor}.lora_a": (width, RANK), f"{tensor}.lora_b": (RANK, width)}
    return gguf(shapes, said | {"adapter.lora.alpha": alpha})


def safetensors(tensors: Mapping[str, tuple[int, ...]] | None = None, *, seed: int = 0) -> bytes:
    """All tensors F32, filled with zeroes; with a seed, with random numbers."""
    header: dict[str, Any] = {}
    end = 0
    numbers = random.Random(seed)  # noqa: S311 - not a secret
    for name, shape in (tensors or {"model.embed_tokens.weight": (8, 4), "model.norm.weight": (4,)}).items():
        size = 4
        for length in shape:
            size *= length
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    if not seed:
        return safetensors_of(header, bytes(end))
    return safetensors_of(header, struct.pack(f"<{end // 4}f", *(numbers.uniform(-0.2, 0.2) for _ in range(end // 4))))


def llama_folder() -> dict[str, bytes]:
    """The files of a Llama of one layer with random weights, and a tokenizer of one token for each byte."""
    vocabulary = {token: number for number, token in enumerate([*HF_SPECIAL, *_byte_letters()])}
    heads = {"num_attention_heads": HEADS, "num_key_value_heads": HEADS, "head_dim": 32}
    config = heads | {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HF_WIDTH, "intermediate_size": 128,
        "num_hidden_layers": 1, "vocab_size": len(vocabulary), "max_position_embeddings": 512, "rms_norm_eps": 1e-5,
        "hidden_act": "silu", "torch_dtype": "float32", "tie_word_embeddings": False, "bos_token_id": 0,
        "eos_token_id": 1,
    }  # fmt: skip
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [plain | {"id": number, "content": token} for number, token in enumerate(HF_SPECIAL)]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "unk_token": "<unk>", "byte_fallback": False, "vocab": vocabulary, "merges": []}
    tokenizer = {"version": "1.0", "added_tokens": added, "pre_tokenizer": level, "decoder": level, "model": model}
    template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }} {% endfor %}"
    said = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    block = "model.layers.0."
    shapes = {
        "model.embed_tokens.weight": (len(vocabulary), HF_WIDTH), "lm_head.weight": (len(vocabulary), HF_WIDTH),
        "model.norm.weight": (HF_WIDTH,), f"{block}input_layernorm.weight": (HF_WIDTH,),
        f"{block}post_attention_layernorm.weight": (HF_WIDTH,), f"{block}mlp.gate_proj.weight": (128, HF_WIDTH),
        f"{block}mlp.up_proj.weight": (128, HF_WIDTH), f"{block}mlp.down_proj.weight": (HF_WIDTH, 128),
    } | {f"{block}self_attn.{name}_proj.weight": (HF_WIDTH, HF_WIDTH) for name in "qkvo"}  # fmt: skip
    return {
        "config.json": json.dumps(config).encode(),
        "tokenizer.json": json.dumps(tokenizer).encode(),
        "tokenizer_config.json": json.dumps(said | {"chat_template": template}).encode(),
        "model.safetensors": safetensors(shapes, seed=1),
    }


def peft_folder() -> dict[str, bytes]:
    """A LoRA for what llama_folder() makes."""
    name = "base_model.model.model.layers.0.self_attn.o_proj.lora_"
    shapes = {f"{name}A.weight": (8, HF_WIDTH), f"{name}B.weight": (HF_WIDTH, 8)}
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 512, "target_modules": ["o_proj"], "bias": "none"}
    return {
        "adapter_config.json": json.dumps(config).encode(),
        "adapter_model.safetensors": safetensors(shapes, seed=2),
    }


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


def _byte_letters() -> list[str]:
    """The letter that a byte-level tokenizer writes for each byte, as GPT-2 chose them."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    letters = {byte: chr(byte) for byte in shown} | {byte: chr(256 + n) for n, byte in enumerate(hidden)}
    return [letters[byte] for byte in range(256)]
