"""Which files of a repository are weights that can be run, and which of several quantisations to take. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from catalog.errors import BadWeights, Refused
from catalog.huggingface import RepoFile
from catalog.uploads import contents

PREFERRED = "Q4_K_M"
QUANTISATION = re.compile(
    r"(?<![A-Za-z0-9])(I?Q\d(?:_[A-Z0-9]+)*|TQ\d_\d|MXFP4(?:_MOE)?|BF16|F16|FP16|F32)(?![A-Za-z0-9])", re.I
)
# GGUF files that are no model by themselves: the eyes of one, and what a quantisation was weighed with.
BESIDE = re.compile(r"mmproj|imatrix|\.mtp\.|draft", re.I)
ORIGINAL = re.compile(r"(consolidated|original)\b", re.I)


@dataclass(frozen=True, slots=True)
class Variant:
    """Files that are weights together. `label` tells one from the other; `file` is how it is asked for."""

    label: str
    format: str
    files: tuple[RepoFile, ...]
    is_adapter: bool = False

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    @property
    def file(self) -> str:
        return self.files[0].name if self.format == "gguf" else ""


def of(files: Iterable[RepoFile]) -> tuple[Variant, ...]:
    """All that can be run, largest first, or Refused with the reason."""
    found = list(files)
    _check_no_code(found)
    variants = (*_gguf(found), *_safetensors(found))
    if variants:
        return tuple(sorted(variants, key=lambda variant: -variant.size_bytes))
    pickles = [file.name for file in found if PurePosixPath(file.name).suffix.lower() in contents.PICKLES]
    if pickles:
        text = (
            f"The only weights are pickles ({pickles[0]}), which can run code when they are loaded. Take a repository"
            " with safetensors or GGUF, or convert them and upload the result."
        )
        raise Refused(text, code="only_pickle")
    text = "There are no weights that can be run here: no .gguf and no .safetensors file."
    raise Refused(text, code="no_weights")


def choose(variants: tuple[Variant, ...], *, file: str, most_bytes: float, formats: Iterable[str]) -> Variant:
    """The one that was asked for, else a sensible one: in a format that is run here, Q4_K_M, or the largest that fits
    into `most_bytes`, or the smallest of all."""
    if file:
        named = [one for one in variants if file in {one.label, *(part.name for part in one.files)}]
        if not named:
            choices = ", ".join(one.label for one in variants[:20])
            raise Refused(
                f"There are no weights {file[:80]!r}. There are: {choices}.", code="no_such_file", field="file"
            )
        return named[0]
    runnable = set(formats)
    pool = [one for one in variants if one.format in runnable] or list(variants)
    fits = [one for one in pool if one.size_bytes <= most_bytes]
    preferred = [one for one in fits if one.label.upper().endswith(PREFERRED)]
    return next(iter(preferred or fits), pool[-1])


def _check_no_code(files: list[RepoFile]) -> None:
    code = [file.name for file in files if file.name.lower().endswith(".py")]
    if code:
        text = (
            f"The repository has code of its own ({code[0]}), and weights with code are not run here. Take a version of"
            " the model that the engines know by themselves."
        )
        raise Refused(text, code="has_code")


def _gguf(files: list[RepoFile]) -> list[Variant]:
    groups: dict[str, list[RepoFile]] = {}
    for file in files:
        if not file.name.endswith(".gguf") or BESIDE.search(PurePosixPath(file.name).name) or not _is_fine(file):
            continue
        shard = contents.SHARD.fullmatch(file.name)
        groups.setdefault(shard[1] if shard else file.name.removesuffix(".gguf"), []).append(file)
    labels = {stem: _label(stem) for stem in groups}
    twice = {label for label in labels.values() if list(labels.values()).count(label) > 1}
    return [
        Variant(stem if labels[stem] in twice else labels[stem], "gguf", tuple(sorted(group, key=lambda one: one.name)))
        for stem, group in groups.items()
    ]


def _label(stem: str) -> str:
    found = QUANTISATION.findall(PurePosixPath(stem).name)
    return found[-1].upper() if found else PurePosixPath(stem).name


def _safetensors(files: list[RepoFile]) -> list[Variant]:
    """Those in the repository's root: what lies in folders is the same in another form, or another thing."""
    root = [file for file in files if "/" not in file.name and _is_fine(file)]
    holders = [file for file in root if file.name.endswith(".safetensors") and not ORIGINAL.match(file.name)]
    if not holders:
        return []
    names = {file.name for file in root}
    is_adapter = contents.ADAPTER_CONFIG in names and "config.json" not in names
    if is_adapter:
        holders = [file for file in holders if file.name.startswith("adapter_model")] or holders
    elif main := [file for file in holders if file.name.startswith("model")]:
        holders = main
    texts = [file for file in root if not file.name.endswith((".safetensors", ".gguf"))]
    label = "LoRA adapter" if is_adapter else "safetensors"
    return [Variant(label, "safetensors", (*sorted(holders, key=lambda one: one.name), *texts), is_adapter)]


def _is_fine(file: RepoFile) -> bool:
    """What an upload of that name would be let: a known kind, and no way out of a folder."""
    if ".." in PurePosixPath(file.name).parts or file.size_bytes == 0:
        return False
    try:
        contents.check_name(PurePosixPath(file.name).name)
    except BadWeights:
        return False
    is_text = not file.name.endswith((".safetensors", ".gguf"))
    return not is_text or file.size_bytes <= contents.LARGEST_TEXT
