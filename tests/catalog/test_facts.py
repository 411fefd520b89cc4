"""What files say of the model in them, as far as memory depends on it."""

import json
from pathlib import Path

import pytest
from django.conf import settings

from catalog import facts
from catalog.uploads import headers
from tests.factories import tiny_weights as tiny
from tests.factories.accounts import TeamFactory
from tests.factories.deployments import own_weights

CONFIGS = [
    (
        {"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096,
         "torch_dtype": "bfloat16", "max_position_embeddings": 131072, "vocab_size": 128256},
        {"layers": 32, "kv_heads": 8, "key_width": 128, "value_width": 128, "dtype_bytes": 2, "context_tokens": 131072,
         "vocabulary": 128256, "width": 4096},
    ),
    (
        {"num_hidden_layers": 61, "num_attention_heads": 128, "hidden_size": 7168, "kv_lora_rank": 512,
         "qk_rope_head_dim": 64, "quantization_config": {"quant_method": "fp8"}},
        {"layers": 61, "kv_heads": 1, "key_width": 576, "value_width": 0, "quantization": "fp8", "width": 7168},
    ),
    (
        {"text_config": {"num_hidden_layers": 34, "num_attention_heads": 8, "head_dim": 256,
         "num_key_value_heads": 4, "sliding_window": 1024}},
        {"layers": 34, "kv_heads": 4, "key_width": 256, "value_width": 256, "window_tokens": 1024},
    ),
    ({"num_hidden_layers": "many", "hidden_size": True, "num_attention_heads": -1}, {}),
    ({"sliding_window": 4096, "use_sliding_window": False, "text_config": "none", "quantization_config": None}, {}),
    *(
        ({"quantization_config": said}, {})
        for said in ("fp8", ["fp8"], *({"quant_method": odd} for odd in ("fp8\0", float("nan"), "\ud800", {})))
    ),
]  # fmt: skip


@pytest.mark.parametrize(("config", "expected"), CONFIGS)
def test_a_config_is_read_and_what_it_does_not_say_left_out(
    config: dict[str, object], expected: dict[str, object]
) -> None:
    assert facts.of("safetensors", {}, config) == expected


def test_a_gguf_tells_its_shape_also_one_number_for_each_layer(tmp_path: Path) -> None:
    said = tiny.LLAMA | {"llama.block_count": 3, "llama.attention.head_count_kv": [2, 0, 1]}
    (tmp_path / "a.gguf").write_bytes(tiny.gguf(metadata=said))
    header = headers.read_gguf(tmp_path / "a.gguf")
    found = facts.of("gguf", header.tensors, header.metadata)
    assert (found["layers"], found["kv_heads"], found["key_width"]) == (3, [2, 0, 1], 16)
    assert found["vocabulary"] == len(tiny.TOKENS)
    assert "tokenizer.ggml.tokens" not in header.metadata


def test_smollm2_s_own_file() -> None:
    header = headers.read_gguf(Path(settings.SMOLLM2_GGUF))
    found = facts.of("gguf", header.tensors, header.metadata)
    shape = {name: found[name] for name in ("layers", "kv_heads", "key_width", "vocabulary", "context_tokens")}
    assert shape == {"layers": 30, "kv_heads": 3, "key_width": 64, "vocabulary": 49152, "context_tokens": 8192}


@pytest.mark.django_db
def test_facts_are_read_once_and_kept_on_the_row(tmp_path: Path) -> None:
    weights = own_weights(TeamFactory(), tmp_path / "one", tiny.llama_folder())
    assert facts.known(weights)["layers"] == 1
    weights.refresh_from_db()
    assert weights.facts["parameters"] == sum(facts_of_shapes(tmp_path / "one" / "model.safetensors"))
    (tmp_path / "one" / "config.json").unlink()
    assert facts.known(weights)["layers"] == 1


@pytest.mark.django_db
def test_weights_that_can_not_be_read_have_no_facts(tmp_path: Path) -> None:
    weights = own_weights(TeamFactory(), tmp_path / "two", {"a.gguf": b"no"})
    assert facts.known(weights) == {}


def facts_of_shapes(path: Path) -> list[int]:
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    sizes = [entry["data_offsets"] for entry in header.values()]
    return [(end - begin) // 4 for begin, end in sizes]
