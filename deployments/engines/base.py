"""What an engine is: a pure function from weights and options to a LaunchSpec, with its options checked first."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from deployments.errors import BadOption
from deployments.launch import LaunchSpec
from deployments.sizing import Demand, Shape


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA on top of the weights: its file, how much of it is applied, and its rank where that is known."""

    path: str
    scale: float = 1.0
    rank: int | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be served: `weights_path` on this machine, `served_name` as callers write it, a random `key`. `env` is
    the team's own environment, its secrets too."""

    name: str
    weights_path: str
    served_name: str
    key: str = field(repr=False)
    threads: int
    gpus: int = 0
    adapters: tuple[Adapter, ...] = ()
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Place:
    """What bounds the options: the model's own context (None: no source lists it) and the width of its heads, the
    hardware's GPUs, how many adapters there are and the rank of the largest."""

    max_context_tokens: int | None = None
    key_width: int | None = None
    value_width: int | None = None
    gpus: int = 0
    adapters: int = 0
    lora_rank: int | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """What is to be loaded, for the sum of its memory: bytes on the disk, and what the files say (catalog.facts)."""

    size_bytes: int
    facts: Mapping[str, Any]
    shape: Shape | None
    gpus: int = 0
    adapter_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Metrics:
    """The names, in the engine's /metrics, of what we read there; empty: it does not tell."""

    running: str
    waiting: str
    prompt_tokens: str
    generated_tokens: str
    cache_use: str = ""


@dataclass(frozen=True, slots=True)
class Number:
    name: str
    label: str
    default: int
    least: int
    most: int
    help: str = ""

    def read(self, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not self.least <= value <= self.most:
            raise BadOption(self.name, f"{self.name} takes a whole number from {self.least} to {self.most}")
        return value


@dataclass(frozen=True, slots=True)
class Fraction:
    name: str
    label: str
    default: float
    least: float
    most: float
    help: str = ""

    def read(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.least <= value <= self.most:
            raise BadOption(self.name, f"{self.name} takes a number from {self.least:g} to {self.most:g}")
        return float(value)


@dataclass(frozen=True, slots=True)
class Choice:
    name: str
    label: str
    default: str
    choices: tuple[str, ...]
    help: str = ""

    def read(self, value: Any) -> str:
        if value not in self.choices:
            raise BadOption(self.name, f"{self.name} takes one of {', '.join(self.choices)}")
        return str(value)


@dataclass(frozen=True, slots=True)
class Switch:
    name: str
    label: str
    default: bool
    help: str = ""

    def read(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise BadOption(self.name, f"{self.name} takes true or false")
        return value


@dataclass(frozen=True, slots=True)
class Text:
    name: str
    label: str
    default: str = ""
    longest: int = 32_768
    help: str = ""

    def read(self, value: Any) -> str:
        if not isinstance(value, str) or len(value) > self.longest or "\0" in value:
            raise BadOption(self.name, f"{self.name} takes a text of at most {self.longest} characters")
        return value.strip()


Option = Number | Fraction | Choice | Switch | Text
# These two every engine has; gateway, scaling and forms read them by name.
ALWAYS = ("context_tokens", "slots")


class Engine(Protocol):
    """`name` as offers write it, `label` as people read it; `options` in the order in which a form shows them;
    `reads_media`: weights that read pictures can do so in it."""

    name: str
    label: str
    options: tuple[Option, ...]
    metrics: Metrics
    most_adapters: int
    scales_adapters: bool
    reads_media: bool

    def missing(self, *, gpus: int) -> str:
        """Why this portal can't run it on hardware with so many GPUs, and what to do; empty if it can."""
        ...

    def version(self) -> str:
        """Of what is installed here; empty if nothing is."""
        ...

    def check(self, options: Mapping[str, Any], place: Place) -> dict[str, Any]:
        """context_tokens, slots, and what differs from the engine's defaults; or BadOption naming what is wrong."""
        ...

    def demand(self, load: Load, options: Mapping[str, Any]) -> Demand:
        """What it will do with memory, given checked options."""
        ...

    def probe(self, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Where to send a real prompt, and which, before it takes anybody's calls. `choices` or `data` answer it."""
        ...

    def spec(self, job: Job, options: Mapping[str, Any]) -> LaunchSpec:
        """What to run with checked options. Pure: no file is read, no port is taken."""
        ...


def read_options(options: Mapping[str, Any], known: Iterable[Option], *, label: str) -> dict[str, Any]:
    """Each read by its own kind; those at their default are left out, but for the two that are always there."""
    by_name = {option.name: option for option in known}
    if unknown := sorted(set(options) - set(by_name)):
        raise BadOption(unknown[0], f"{label} has no option {unknown[0]!r}; it takes {', '.join(by_name)}")
    found = {name: by_name[name].read(value) for name, value in options.items() if value is not None}
    always = {name: found.get(name, by_name[name].default) for name in ALWAYS}
    return always | {name: value for name, value in found.items() if value != by_name[name].default}


def bounded_context(options: Iterable[Option], most: int | None) -> list[Option]:
    """The same, with the context's bounds narrowed to what the model takes."""
    return [
        _narrowed(one, most) if isinstance(one, Number) and one.name == "context_tokens" else one for one in options
    ]


def _narrowed(option: Number, most: int | None) -> Number:
    upper = min(most or option.most, option.most)
    return Number(
        option.name, option.label, min(option.default, upper), min(option.least, upper), upper, option.help
    )  # fmt: skip
