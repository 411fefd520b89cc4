"""Headers of safetensors and GGUF files, read and checked without loading a tensor. Pure but for the file given.

safetensors: https://github.com/huggingface/safetensors#format; GGUF: ggml's docs/gguf.md, block sizes from ggml.c.
"""

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from catalog.errors import BadWeights

LONGEST_HEADER = 100_000_000
MOST_TENSORS = 200_000
MOST_KEYS = 100_000
MOST_ITEMS = 10_000_000
LONGEST_STRING = 16_000_000
# Longer arrays (a vocabulary) are passed over; those with a number for each layer are kept.
MOST_KEPT_ITEMS = 1024
MOST_DIMENSIONS = {"safetensors": 8, "gguf": 4}

# safetensors' dtypes in bits.
DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16,
    "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F4": 4,
    "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
# GGML types: elements of a block, bytes of a block.
GGML_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66),
    17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136),
    24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54),
    35: (256, 66), 39: (32, 17),
}  # fmt: skip
# GGUF's scalar value types: struct's letter.
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9


@dataclass(frozen=True, slots=True)
class Header:
    """`tensors`: name -> shape as the format writes it (GGUF: innermost first). `metadata`: of its arrays only short
    ones of numbers are kept."""

    format: str
    tensors: dict[str, tuple[int, ...]]
    metadata: dict[str, Any] = field(default_factory=dict)


def read_safetensors(path: Path) -> Header:
    """Its header, or BadWeights with the reason."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise BadWeights(f"its header would be {length} bytes long, and the file has {size}")
        if length > LONGEST_HEADER:
            raise BadWeights(f"its header is {length} bytes long; more than {LONGEST_HEADER} is not read")
        text = file.read(length)
    if not text.startswith(b"{"):
        raise BadWeights("it does not begin as a safetensors file does")
    try:
        raw = json.loads(text, object_pairs_hook=_no_twins)
    except (ValueError, RecursionError) as error:
        raise BadWeights(f"its header is not JSON: {error}") from error
    metadata = raw.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise BadWeights("its __metadata__ is not an object")
    if not raw:
        raise BadWeights("it holds no tensor")
    _check_spans([_span(name, entry) for name, entry in raw.items()], size - 8 - length)
    return Header("safetensors", {name: tuple(entry["shape"]) for name, entry in raw.items()}, metadata)


def read_gguf(path: Path) -> Header:
    """Its header, or BadWeights with the reason."""
    size = path.stat().st_size
    with path.open("rb") as file:
        reader = _Reader(file, size)
        if file.read(4) != b"GGUF":
            raise BadWeights("it does not begin with GGUF's magic")
        version = reader.scalar("I")
        if version not in {2, 3}:
            raise BadWeights(f"it is GGUF of version {version}; 2 and 3 are read (big-endian files are not)")
        tensor_count, key_count = reader.scalar("Q"), reader.scalar("Q")
        if tensor_count > MOST_TENSORS or key_count > MOST_KEYS:
            raise BadWeights(f"it says that it has {tensor_count} tensors and {key_count} keys")
        metadata: dict[str, Any] = {}
        for _ in range(key_count):
            name = reader.string()
            value = reader.value(reader.scalar("I"))
            if name in metadata:
                raise BadWeights(f"its key {name[:60]!r} stands there twice")
            metadata[name] = value
        spans, tensors = _gguf_tensors(reader, tensor_count)
        start = file.tell()
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1 or alignment % 8:
        raise BadWeights(f"its alignment is {alignment!r}")
    _check_gguf(spans, size - (start + -start % alignment), alignment)
    return Header("gguf", tensors, {name: value for name, value in metadata.items() if value is not None})


class _Reader:
    """Little-endian values from a file, none of which reaches behind the file's end."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size

    def scalar(self, letter: str) -> Any:
        return struct.unpack(f"<{letter}", self._bytes(struct.calcsize(f"<{letter}")))[0]

    def string(self) -> str:
        length = self.scalar("Q")
        if length > LONGEST_STRING:
            raise BadWeights(f"its header has a text of {length} bytes")
        try:
            return self._bytes(length).decode()
        except UnicodeDecodeError as error:
            raise BadWeights("its header has a text that is not UTF-8") from error

    def value(self, kind: int, *, inside: int = 0) -> Any:
        """A value; None for an array of texts, and for a long one: those are only passed over."""
        if letter := SCALARS.get(kind):
            return self.scalar(letter)
        if kind == STRING:
            return self.string()
        if kind != ARRAY or inside > 3:
            raise BadWeights(f"its header has a value of the unknown type {kind}")
        inner, count = self.scalar("I"), self.scalar("Q")
        if count > MOST_ITEMS:
            raise BadWeights(f"its header has an array of {count} items")
        if letter := SCALARS.get(inner):
            if count <= MOST_KEPT_ITEMS and not inside:
                return list(struct.unpack(f"<{count}{letter}", self._bytes(count * struct.calcsize(f"<{letter}"))))
            self._skip(count * struct.calcsize(f"<{letter}"))
            return None
        for _ in range(count):
            if inner == STRING:
                self._skip(self.scalar("Q"))
            else:
                self.value(inner, inside=inside + 1)
        return None

    def _bytes(self, count: int) -> bytes:
        found = self._file.read(count)
        if len(found) != count:
            raise BadWeights("its header is longer than the file")
        return found

    def _skip(self, count: int) -> None:
        if count > self._size - self._file.tell():
            raise BadWeights("its header is longer than the file")
        self._file.seek(count, 1)


@dataclass(frozen=True, slots=True)
class _Span:
    name: str
    begin: int
    end: int


def _gguf_tensors(reader: _Reader, count: int) -> tuple[list[_Span], dict[str, tuple[int, ...]]]:
    spans, tensors = [], {}
    for _ in range(count):
        name = reader.string()
        dimensions = reader.scalar("I")
        if not 1 <= dimensions <= MOST_DIMENSIONS["gguf"]:
            raise BadWeights(f"its tensor {name[:60]!r} has {dimensions} dimensions")
        shape = tuple(reader.scalar("Q") for _ in range(dimensions))
        kind, offset = reader.scalar("I"), reader.scalar("Q")
        if name in tensors:
            raise BadWeights(f"its tensor {name[:60]!r} stands there twice")
        if kind not in GGML_BLOCKS:
            raise BadWeights(f"its tensor {name[:60]!r} is of the unknown type {kind}")
        elements, width = GGML_BLOCKS[kind]
        if not all(shape) or shape[0] % elements:
            raise BadWeights(f"its tensor {name[:60]!r} has the shape {list(shape)}, which its type does not allow")
        spans.append(_Span(name, offset, offset + prod(shape) // elements * width))
        tensors[name] = shape
    return spans, tensors


def _check_gguf(spans: list[_Span], room: int, alignment: int) -> None:
    end = 0
    for span in sorted(spans, key=lambda span: span.begin):
        if span.begin % alignment:
            raise BadWeights(f"its tensor {span.name[:60]!r} is not aligned")
        if span.begin < end:
            raise BadWeights(f"its tensor {span.name[:60]!r} overlaps another")
        if span.end > room:
            raise BadWeights(f"its tensor {span.name[:60]!r} reaches behind the file's end: the file is cut off")
        end = span.end


def _span(name: str, entry: Any) -> _Span:
    """A safetensors entry whose shape, dtype and place agree."""
    if not isinstance(entry, dict):
        raise BadWeights(f"its tensor {name[:60]!r} is not described")
    shape, place = _counts(entry.get("shape")), _counts(entry.get("data_offsets"))
    if shape is None or place is None or len(place) != 2 or len(shape) > MOST_DIMENSIONS["safetensors"]:
        raise BadWeights(f"its tensor {name[:60]!r} has no proper shape or place")
    bits = DTYPE_BITS.get(str(entry.get("dtype")))
    if bits is None:
        raise BadWeights(f"its tensor {name[:60]!r} is of the unknown type {str(entry.get('dtype'))[:20]!r}")
    begin, end = place
    if (end - begin) * 8 != prod(shape) * bits:
        raise BadWeights(f"its tensor {name[:60]!r} has {end - begin} bytes, which its shape does not have")
    return _Span(name, begin, end)


def _check_spans(spans: list[_Span], room: int) -> None:
    """safetensors leaves no hole and no overlap: what lies between could be anything."""
    end = 0
    for span in sorted(spans, key=lambda span: (span.begin, span.end)):
        if span.begin < end:
            raise BadWeights(f"its tensor {span.name[:60]!r} overlaps another")
        if span.begin > end:
            raise BadWeights(f"there is a hole before its tensor {span.name[:60]!r}")
        end = span.end
    if end > room:
        raise BadWeights(f"its tensors need {end} bytes and the file has {room}: the file is cut off")
    if end < room:
        raise BadWeights(f"{room - end} bytes follow its last tensor")


def _counts(found: Any) -> list[int] | None:
    """Whole numbers from 0, or None: JSON's true and 1.0 are none."""
    fine = isinstance(found, list) and all(type(item) is int and 0 <= item < 2**63 for item in found)
    return found if fine else None


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadWeights("a name stands twice in its header")
    return found


READERS: dict[str, Callable[[Path], Header]] = {".safetensors": read_safetensors, ".gguf": read_gguf}
