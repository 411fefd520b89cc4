"""How much memory an engine will take, as a range, with the sum that says so; what fits where, and what it costs.

Pure. Sizes are in bytes, 1 GiB is 1024**3 of them.

    memory = weights + KV cache + overhead
    KV cache = calls x context tokens x layers x KV heads x (key width x key bytes + value width x value bytes)

The KV formula is that of attention itself (Pope et al. 2022, "Efficiently Scaling Transformer Inference", 3.1). The
overhead is the engine's own (deployments/engines). A measured peak takes the formula's place once there is one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any

GIB = 1024**3
MIB = 1024**2
# Where the shape of a model is not known: what remains to be added to its weights, as a part of them.
UNKNOWN_LIKELY, UNKNOWN_HIGH = 0.2, 0.5
# How far a measured peak may be off the next one; and one that was measured with other options.
MEASURED_SPREAD, SHIFTED_SPREAD = 0.1, 0.15


@dataclass(frozen=True, slots=True)
class Range:
    """At least, most likely, and at most, in bytes."""

    low: int
    likely: int
    high: int

    def __add__(self, other: "Range") -> "Range":
        return Range(self.low + other.low, self.likely + other.likely, self.high + other.high)


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides the KV cache, as catalog.facts reads it. `window_tokens`: some layers look back no further."""

    layers: int
    kv_heads: int
    """Of all layers together."""
    key_width: int
    value_width: int
    window_tokens: int | None = None
    vocabulary: int = 0
    width: int = 0

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Shape | None":
        """None if the files did not say enough."""
        layers, heads, key = facts.get("layers"), facts.get("kv_heads"), facts.get("key_width")
        if not (layers and heads and key):
            return None
        return cls(
            layers=layers,
            kv_heads=sum(heads) if isinstance(heads, list) else heads * layers,
            key_width=key,
            value_width=facts.get("value_width", key),
            window_tokens=facts.get("window_tokens"),
            vocabulary=facts.get("vocabulary") or 0,
            width=facts.get("width") or 0,
        )


@dataclass(frozen=True, slots=True)
class Demand:
    """What an engine says that it will do with weights. `calls`: how many calls' cache it holds: at the start, usually,
    and at most."""

    weights: int
    weights_text: str
    context_tokens: int
    calls: tuple[int, int, int]
    key_bytes: float
    value_bytes: float
    overhead: Range
    overhead_text: str
    part_of_memory: float = 1.0
    """So much of the hardware's memory does it take at most."""


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    bytes: Range
    text: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """`total` is the sum of `parts`, but where a measured peak has corrected it: then `measured` is that peak."""

    parts: tuple[Part, ...]
    total: Range
    part_of_memory: float = 1.0
    measured: int | None = None
    measured_as_it_is: bool = False
    """The peak was measured with just these options; else with others, and only what the formula left out is used."""

    @property
    def formula(self) -> str:
        return " + ".join(f"{part.name} {gib(part.bytes.likely)}" for part in self.parts) + f" = {gib(self.sum.likely)}"

    @property
    def sum(self) -> Range:
        """Of the parts, whatever was measured."""
        total = Range(0, 0, 0)
        for part in self.parts:
            total += part.bytes
        return total


class Fit(StrEnum):
    FITS = "fits"
    TIGHT = "tight"  # it starts; at full load it may run out
    NO = "no"


def estimate(demand: Demand, shape: Shape | None) -> Estimate:
    weights = Part("weights", Range(*[demand.weights] * 3), demand.weights_text)
    overhead = Part("overhead", demand.overhead, demand.overhead_text)
    parts = (weights, _kv_cache(demand, shape), overhead)
    return Estimate(parts, parts[0].bytes + parts[1].bytes + parts[2].bytes, demand.part_of_memory)


def corrected(found: Estimate, *, peak: int, of: Estimate) -> Estimate:
    """By a peak that was measured on an engine for which the formula said `of`: what it left out is added here too."""
    same = of.sum == found.sum
    spread = 0.0 if same else SHIFTED_SPREAD
    shift = peak - of.sum.likely
    likely = max(0, found.sum.likely + shift)
    total = Range(
        round(likely * (1 - spread)), likely, max(round(likely * (1 + MEASURED_SPREAD)), found.sum.high + shift)
    )
    return replace(found, total=total, measured=peak, measured_as_it_is=same)


def fit(found: Estimate, memory_gib: int) -> Fit:
    has = memory_gib * GIB * found.part_of_memory
    if found.total.low > has:
        return Fit.NO
    return Fit.TIGHT if found.total.likely > has else Fit.FITS


def per_million_tokens(per_second: Decimal | None, tokens_per_second: Decimal | None) -> Decimal | None:
    """What a million tokens cost on a replica that is busy all the time; None as long as its speed is not measured."""
    if per_second is None or not tokens_per_second:
        return None
    return per_second / tokens_per_second * 1_000_000


def gib(count: int) -> str:
    """Three figures, as people read sizes."""
    if count < GIB:
        return f"{count / MIB:.0f} MiB"
    return f"{count / GIB:.3g} GiB" if count < 100 * GIB else f"{count / GIB:,.0f} GiB"


def _kv_cache(demand: Demand, shape: Shape | None) -> Part:
    if shape is None:
        guess = Range(0, round(demand.weights * UNKNOWN_LIKELY), round(demand.weights * UNKNOWN_HIGH))
        return Part("KV cache", guess, "the files do not say the model's shape: guessed as a fifth of the weights")
    of_token = shape.kv_heads * (shape.key_width * demand.key_bytes + shape.value_width * demand.value_bytes)
    tokens = [calls * demand.context_tokens for calls in demand.calls]
    low = tokens[0]
    if shape.window_tokens and shape.window_tokens < demand.context_tokens:
        low = demand.calls[0] * shape.window_tokens
    likely = demand.calls[1]
    text = (
        f"{likely} {'call' if likely == 1 else 'calls'} x {demand.context_tokens:,} tokens x {of_token:,.0f} bytes"
        f" ({shape.layers} layers, {shape.kv_heads} KV heads in all, {shape.key_width} + {shape.value_width} wide,"
        f" {demand.key_bytes:g} + {demand.value_bytes:g} bytes each)"
    )
    return Part("KV cache", Range(*(round(count * of_token) for count in (low, tokens[1], tokens[2]))), text)
