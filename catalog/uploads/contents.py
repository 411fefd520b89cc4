"""What may be uploaded: which names, which files, and which of them together make weights that an engine can load."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from catalog.errors import BadWeights
from catalog.uploads import headers
from catalog.uploads.headers import Header

LARGEST_TEXT = 64 * 1024 * 1024
LONGEST_NAME = 200
TEXTS = {".json", ".txt", ".md", ".jinja", ".model", ".tiktoken"}
BARE_TEXTS = {"LICENSE", "LICENCE", "NOTICE", "README", "USE_POLICY"}
PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz"}
SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.(safetensors|gguf)")
INDEX = "model.safetensors.index.json"
ADAPTER_CONFIG = "adapter_config.json"
LORA_MATRIX = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.[^.]+)?\.weight")


@dataclass(frozen=True, slots=True)
class File:
    """A file that was read: its header where it holds tensors, what it says where it is JSON."""

    name: str
    header: Header | None = None
    said: Any = None


@dataclass(frozen=True, slots=True)
class Contents:
    """What the files are together. `first` is the file that an engine is pointed at."""

    format: str
    first: str
    is_adapter: bool
    tensors: dict[str, tuple[int, ...]]
    metadata: dict[str, Any]


def check_name(name: str) -> None:
    """A plain file name, or BadWeights: no folder, no way out of one, nothing that a shell would trip over."""
    if not name:
        raise BadWeights("The file has no name.")
    if name != name.strip() or any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        raise BadWeights("The file's name has control characters, or spaces at its ends. Rename it.")
    if "/" in name or "\\" in name or name in {".", ".."} or name.startswith((".", "-", "~")):
        raise BadWeights(f"{name[:80]!r} is not a plain file name: no folders, and no '.', '-' or '~' to begin with.")
    if len(name.encode()) > LONGEST_NAME:
        raise BadWeights(f"The file's name is longer than {LONGEST_NAME} bytes. Rename it.")
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in PICKLES:
        raise BadWeights(f"{name} is a pickle or the like, which can run code when loaded. Convert it to safetensors.")
    if suffix == ".py":
        raise BadWeights(f"{name} is code, and weights with code are not run here.")
    if suffix not in headers.READERS and suffix not in TEXTS and name not in BARE_TEXTS:
        known = ", ".join(sorted([*headers.READERS, *TEXTS]))
        raise BadWeights(f"{name} is none of the files that weights are made of: {known}.")


def check_file(name: str, path: Path) -> File:
    """Read one file, or BadWeights with the reason."""
    check_name(name)
    if path.stat().st_size == 0:
        raise BadWeights("it is empty")
    suffix = PurePosixPath(name).suffix.lower()
    if reader := headers.READERS.get(suffix):
        header = reader(path)
        if not header.tensors:
            raise BadWeights("it holds no tensor")
        return File(name, header=header)
    if path.stat().st_size > LARGEST_TEXT:
        raise BadWeights(f"it is larger than {LARGEST_TEXT} bytes, more than a file beside weights is")
    if suffix == ".json":
        said = _json(path)
        if isinstance(said, dict) and "auto_map" in said:
            raise BadWeights("it has an auto_map: the model needs code of its own, which is not run here")
        return File(name, said=said)
    if suffix != ".model":
        _check_text(path)
    return File(name)


def check_set(files: Mapping[str, File]) -> Contents:
    """All files together, or BadWeights with the reason."""
    holders = sorted(name for name, file in files.items() if file.header)
    formats = {file.header.format for file in files.values() if file.header}
    if not holders:
        raise BadWeights("There are no weights among the files: add a .gguf or .safetensors file.")
    if len(formats) > 1:
        raise BadWeights("There are GGUF and safetensors files. Upload them under two names: an engine takes one.")
    _check_shards(holders)
    tensors = _all_tensors(files)
    config = files[ADAPTER_CONFIG].said if ADAPTER_CONFIG in files else None
    if formats == {"gguf"}:
        return _gguf(files, holders, tensors)
    if config is not None:
        return _safetensors_adapter(holders, tensors, config)
    return _safetensors(files, holders, tensors)


def check_fits(adapter: Contents, base: Header) -> None:
    """Each matrix of the adapter has its tensor in the base, of the same size; else BadWeights."""
    if adapter.format != base.format:
        raise BadWeights(
            f"The adapter is {adapter.format} and its base {base.format}: an engine loads both in one format."
            " For llama.cpp, convert_lora_to_gguf.py makes GGUF of a PEFT adapter."
        )
    if adapter.format == "gguf":
        mine, its = adapter.metadata.get("general.architecture"), base.metadata.get("general.architecture")
        if mine != its:
            raise BadWeights(f"The adapter is for the architecture {mine!r} and its base is {its!r}.")
    for name, (ins, outs) in _pairs(adapter).items():
        if name == "token_embd.weight":
            continue  # its matrices lie the other way round; the engine checks them
        shape = base.tensors.get(name)
        if shape is None:
            raise BadWeights(f"The adapter changes {name}, which the base does not have. It is another model's.")
        wanted = shape if adapter.format == "gguf" else shape[::-1]
        if len(wanted) < 2 or (ins, outs) != tuple(wanted[:2]):
            raise BadWeights(
                f"The adapter's {name} is for {ins} x {outs}, and the base's is {wanted[0]} x {wanted[-1]}."
                " Is it an adapter of another size of this model?"
            )


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadWeights(f"it is not JSON: {error}") from error


def _check_text(path: Path) -> None:
    content = path.read_bytes()
    if b"\0" in content:
        raise BadWeights("it is not text")
    try:
        content.decode()
    except UnicodeDecodeError as error:
        raise BadWeights("it is not text in UTF-8") from error


def _check_shards(holders: list[str]) -> None:
    """A model in n parts has all n, and nothing else beside them."""
    shards = {name: found for name in holders if (found := SHARD.fullmatch(name))}
    if not shards:
        return
    (stem, count) = next((found[1], int(found[3])) for found in shards.values())
    suffix = holders[0].rsplit(".", 1)[1]
    wanted = {f"{stem}-{number:05}-of-{count:05}.{suffix}" for number in range(1, min(count, 10_000) + 1)}
    if missing := sorted(wanted - set(holders)):
        raise BadWeights(f"Parts are missing: {', '.join(missing[:5])}. Add them and verify again.")
    if strangers := sorted(set(holders) - wanted):
        raise BadWeights(f"{strangers[0]} does not belong to the parts of {stem}. Remove it.")


def _all_tensors(files: Mapping[str, File]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for file in files.values():
        for name, shape in (file.header.tensors if file.header else {}).items():
            if name in found:
                raise BadWeights(f"The tensor {name[:60]!r} is in two of the files.")
            found[name] = shape
    return found


def _gguf(files: Mapping[str, File], holders: list[str], tensors: dict[str, tuple[int, ...]]) -> Contents:
    if len(holders) > 1 and not SHARD.fullmatch(holders[0]):
        raise BadWeights(f"There are {len(holders)} GGUF files that are not parts of one. Upload one under each name.")
    header = files[holders[0]].header
    assert header  # noqa: S101 - holders have one
    if not isinstance(header.metadata.get("general.architecture"), str):
        raise BadWeights(f"{holders[0]} does not say which architecture it is (general.architecture).")
    kind = header.metadata.get("adapter.type", "lora")
    is_adapter = header.metadata.get("general.type") == "adapter"
    if is_adapter and kind != "lora":
        raise BadWeights(f"{holders[0]} is an adapter of the kind {kind!r}; LoRA adapters are taken.")
    return Contents("gguf", holders[0], is_adapter, tensors, header.metadata)


def _safetensors(files: Mapping[str, File], holders: list[str], tensors: dict[str, tuple[int, ...]]) -> Contents:
    config = files["config.json"].said if "config.json" in files else None
    if not isinstance(config, dict) or not isinstance(config.get("architectures"), list):
        raise BadWeights("Safetensors need the config.json of the model, with its `architectures`. Add it.")
    if not any(name.startswith(("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json")) for name in files):
        raise BadWeights("The tokenizer is missing: add tokenizer.json or tokenizer.model.")
    if INDEX in files:
        _check_index(files[INDEX].said, tensors)
    elif len(holders) > 1:
        raise BadWeights(f"There are {len(holders)} safetensors files and no {INDEX}. Add it.")
    return Contents("safetensors", "", False, tensors, config)


def _check_index(said: Any, tensors: Mapping[str, Any]) -> None:
    places = said.get("weight_map") if isinstance(said, dict) else None
    if not isinstance(places, dict):
        raise BadWeights(f"{INDEX} has no weight_map.")
    if missing := sorted(set(places) - set(tensors)):
        raise BadWeights(f"{INDEX} names the tensor {missing[0][:80]!r}, which no file has.")


def _safetensors_adapter(holders: list[str], tensors: dict[str, tuple[int, ...]], config: Any) -> Contents:
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise BadWeights(f"{ADAPTER_CONFIG} does not say that this is a LoRA adapter (peft_type).")
    if config.get("auto_mapping"):
        raise BadWeights(f"{ADAPTER_CONFIG} has an auto_mapping: it needs code of its own, which is not run here.")
    if len(holders) != 1:
        raise BadWeights("An adapter has one safetensors file, adapter_model.safetensors.")
    contents = Contents("safetensors", holders[0], True, tensors, config)
    if not _pairs(contents):
        raise BadWeights(f"{holders[0]} has no LoRA matrices (lora_A, lora_B).")
    return contents


def _pairs(adapter: Contents) -> dict[str, tuple[int, int]]:
    """Tensor of the base -> what goes in and what comes out of the adapter's two matrices for it."""
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in adapter.tensors.items():
        if adapter.format == "gguf":
            base, _, which = name.rpartition(".lora_")
        else:
            match = LORA_MATRIX.fullmatch(name)
            base, which = (f"{match[1]}.weight", match[2].lower()) if match else ("", "")
            shape = shape[::-1]  # noqa: PLW2901 - as GGUF writes it: what goes in first
        if base and which in {"a", "b"}:
            found.setdefault(base, {})[which] = shape
    pairs = {}
    for base, both in found.items():
        a, b = both.get("a", ()), both.get("b", ())
        if len(a) < 2 or len(b) < 2 or a[1] != b[0]:
            raise BadWeights(f"The adapter's matrices for {base} don't belong together.")
        pairs[base] = (a[0], b[1])
    return pairs
