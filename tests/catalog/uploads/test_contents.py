"""Which files are taken, and for what reason the others are not. No database."""

import json
from pathlib import Path

import pytest

from catalog.errors import BadWeights
from catalog.uploads import contents, headers
from tests.factories import tiny_weights as tiny

ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
GOOD_NAMES = ["model.gguf", "model-00001-of-00002.safetensors", "config.json", "LICENSE", "tokenizer.model", "ä b.gguf"]
BAD_NAMES = {
    "": "no name",
    "../model.gguf": "plain file name",
    "/etc/passwd": "plain file name",
    "a/b.gguf": "plain file name",
    "a\\b.gguf": "plain file name",
    "..": "plain file name",
    ".hidden.json": "plain file name",
    "-rf.json": "plain file name",
    "model\0.gguf": "control characters",
    "model\n.gguf": "control characters",
    " model.gguf": "spaces",
    "a" * 300 + ".gguf": "longer than",
    "pytorch_model.bin": "pickle",
    "model.pt": "pickle",
    "model.PKL": "pickle",
    "modeling.py": "code",
    "model.exe": "none of the files",
    "model": "none of the files",
}
BAD_SAFETENSORS = {
    "no tensor": tiny.safetensors_of({}),
    "not begin as": tiny.safetensors_of(b"[1]"),
    "header would be": (2**40).to_bytes(8, "little") + b"{}",
    "the file has 2": b"\0\0",
    "not JSON": tiny.safetensors_of(b"{nonsense"),
    "twice": tiny.safetensors_of(b'{"a": 1, "a": 2}'),
    "overlaps": tiny.safetensors_of({"a": ONE, "b": ONE | {"data_offsets": [4, 12]}}, bytes(12)),
    "hole": tiny.safetensors_of({"a": ONE | {"data_offsets": [8, 16]}}, bytes(16)),
    "cut off": tiny.safetensors_of({"a": ONE}, bytes(7)),
    "follow its last": tiny.safetensors_of({"a": ONE}, bytes(9)),
    "unknown type": tiny.safetensors_of({"a": ONE | {"dtype": "F31"}}, bytes(8)),
    "which its shape": tiny.safetensors_of({"a": ONE | {"shape": [3]}}, bytes(8)),
    "no proper shape": tiny.safetensors_of({"a": ONE | {"shape": [-2]}}, bytes(8)),
    "not described": tiny.safetensors_of({"a": 1}),
    "__metadata__": tiny.safetensors_of({"__metadata__": 1, "a": ONE}, bytes(8)),
}
BAD_GGUF = {
    "magic": b"\x80\x04\x95" + bytes(100),
    "version": b"GGUF" + bytes([1]) + bytes(30),
    "longer than the file": tiny.gguf()[:500],
    "cut off": tiny.gguf()[:-200],
    "it says that it has": b"GGUF\3\0\0\0" + b"\xff" * 16,
    "text of": b"GGUF\3\0\0\0" + (0).to_bytes(8, "little") + (1).to_bytes(8, "little") + b"\xff" * 8,
    "overlaps": tiny.gguf_head(2) + tiny.gguf_info("a", [8], offset=0) + tiny.gguf_info("b", [8], offset=0) + bytes(99),
    "not aligned": tiny.gguf_head(1) + tiny.gguf_info("a", [8], offset=5) + bytes(200),
    "stands there twice": tiny.gguf_head(2) + tiny.gguf_info("a", [8], offset=0) * 2 + bytes(200),
    "unknown type": tiny.gguf_head(1) + tiny.gguf_info("a", [8], offset=0, kind=99) + bytes(200),
    "does not allow": tiny.gguf_head(1) + tiny.gguf_info("a", [33], offset=0, kind=8) + bytes(200),
    "dimensions": tiny.gguf_head(1) + tiny.gguf_info("a", [1] * 5, offset=0) + bytes(200),
    "no tensor": tiny.gguf_head(0) + bytes(64),
}


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_names_that_are_taken(name: str) -> None:
    contents.check_name(name)


@pytest.mark.parametrize(("name", "reason"), BAD_NAMES.items())
def test_names_that_are_not(name: str, reason: str) -> None:
    with pytest.raises(BadWeights, match=reason):
        contents.check_name(name)


@pytest.mark.parametrize(("reason", "content"), BAD_SAFETENSORS.items())
def test_bad_safetensors_are_refused_with_the_reason(tmp_path: Path, reason: str, content: bytes) -> None:
    with pytest.raises(BadWeights, match=reason):
        _check(tmp_path, "model.safetensors", content)


@pytest.mark.parametrize(("reason", "content"), BAD_GGUF.items())
def test_bad_gguf_is_refused_with_the_reason(tmp_path: Path, reason: str, content: bytes) -> None:
    with pytest.raises(BadWeights, match=reason):
        _check(tmp_path, "model.gguf", content)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("config.json", b"{", "not JSON"),
        ("config.json", b'{"auto_map": {}}', "code of its own"),
        ("tokenizer_config.json", b'{"auto_map": {}}', "code of its own"),
        ("config.json", b"[" * 100_000, "not JSON"),
        ("merges.txt", b"a\0b", "not text"),
        ("README.md", b"\xff\xfe", "not text"),
        ("merges.txt", b"", "empty"),
    ],
)
def test_what_lies_beside_the_weights_is_read_too(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    with pytest.raises(BadWeights, match=reason):
        _check(tmp_path, name, content)


def test_any_cut_of_a_file_is_refused_and_none_is_an_error(tmp_path: Path) -> None:
    for name, whole in (("model.gguf", tiny.gguf()), ("model.safetensors", tiny.safetensors())):
        for size in [*range(1, 120), *range(120, len(whole) - 31, 997)]:
            with pytest.raises(BadWeights):
                _check(tmp_path, name, whole[:size])


def test_a_gguf_alone_is_whole(tmp_path: Path) -> None:
    found = contents.check_set(_read(tmp_path, {"model.gguf": tiny.gguf()}))
    assert (found.format, found.first, found.is_adapter) == ("gguf", "model.gguf", False)
    assert found.metadata["llama.context_length"] == 512


CONFIG = json.dumps({"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 64}).encode()
LORA_CONFIG = json.dumps({"peft_type": "LORA", "r": 4}).encode()
PARTS = {f"model-0000{n}-of-00002.safetensors": tiny.safetensors({f"{n}.weight": (2, 2)}) for n in (1, 2)}
INDEX = json.dumps({"weight_map": {"1.weight": "x", "2.weight": "y"}}).encode()
BESIDE = {"config.json": CONFIG, "tokenizer.json": b"{}"}


def test_safetensors_in_parts_are_whole_with_their_index(tmp_path: Path) -> None:
    files = PARTS | BESIDE | {contents.INDEX: INDEX}
    assert contents.check_set(_read(tmp_path, files)).format == "safetensors"


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"config.json": CONFIG}, "no weights among"),
        ({"model.gguf": tiny.gguf(), "model.safetensors": tiny.safetensors()}, "two names"),
        ({"a.gguf": tiny.gguf(), "b.gguf": tiny.gguf({"x": (8,)})}, "not parts of one"),
        ({"model.gguf": tiny.gguf(metadata={"general.type": "model"})}, "which architecture"),
        ({"model.safetensors": tiny.safetensors()}, "config.json"),
        ({"model.safetensors": tiny.safetensors(), "config.json": b"[]"}, "config.json"),
        ({"model.safetensors": tiny.safetensors(), "config.json": CONFIG}, "tokenizer is missing"),
        (PARTS | BESIDE, "index"),
        (dict(list(PARTS.items())[:1]) | BESIDE | {contents.INDEX: INDEX}, "Parts are missing"),
        (PARTS | BESIDE | {"more.safetensors": tiny.safetensors()}, "does not belong"),
        (PARTS | BESIDE | {contents.INDEX: b'{"weight_map": {"3.weight": "z"}}'}, "which no file has"),
        ({"adapter_model.safetensors": tiny.safetensors(), "adapter_config.json": b"{}"}, "peft_type"),
        ({"adapter_model.safetensors": tiny.safetensors(), "adapter_config.json": LORA_CONFIG}, "no LoRA matrices"),
    ],
)
def test_files_that_make_no_weights_are_refused_together(tmp_path: Path, files: dict[str, bytes], reason: str) -> None:
    with pytest.raises(BadWeights, match=reason):
        contents.check_set(_read(tmp_path, files))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, ""),
        ({"width": 48}, "another size"),
        ({"tensor": "blk.9.attn_q.weight"}, "another model"),
        ({"architecture": "qwen2"}, "architecture"),
    ],
)
def test_a_gguf_adapter_fits_its_base_or_is_refused(tmp_path: Path, options: dict[str, object], reason: str) -> None:
    adapter = contents.check_set(_read(tmp_path, {"adapter.gguf": tiny.gguf_adapter(**options)}))  # type: ignore[arg-type]
    assert adapter.is_adapter
    base = _check(tmp_path, "base.gguf", tiny.gguf()).header
    assert base
    _fits(adapter, base, reason)


@pytest.mark.parametrize(("shape", "reason"), [((6, 8), ""), ((6, 9), "another size"), (None, "another model")])
def test_a_safetensors_adapter_fits_its_base_or_is_refused(
    tmp_path: Path, shape: tuple[int, int] | None, reason: str
) -> None:
    pair = {"base_model.model.q.lora_A.weight": (4, 8), "base_model.model.q.lora_B.weight": (6, 4)}
    files = {"adapter_model.safetensors": tiny.safetensors(pair), "adapter_config.json": LORA_CONFIG}
    adapter = contents.check_set(_read(tmp_path, files))
    assert adapter.is_adapter
    base = _check(tmp_path, "base.safetensors", tiny.safetensors({"q.weight" if shape else "k.weight": shape or (1,)}))
    assert base.header
    _fits(adapter, base.header, reason)
    gguf = _check(tmp_path, "base.gguf", tiny.gguf()).header
    assert gguf
    _fits(adapter, gguf, "one format")


def _fits(adapter: contents.Contents, base: headers.Header, reason: str) -> None:
    if not reason:
        contents.check_fits(adapter, base)
        return
    with pytest.raises(BadWeights, match=reason):
        contents.check_fits(adapter, base)


def _check(folder: Path, name: str, content: bytes) -> contents.File:
    path = folder / "upload.part"
    path.write_bytes(content)
    return contents.check_file(name, path)


def _read(folder: Path, files: dict[str, bytes]) -> dict[str, contents.File]:
    return {name: _check(folder, name, content) for name, content in files.items()}
