"""What an engine is: a pure function from weights and options to a LaunchSpec, with its options checked first."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from deployments.errors import BadOption
from deployments.launch import LaunchSpec


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be served: `weights_path` on this machine, `served_name` as callers write it, a random `key`."""

    name: str
    weights_path: str
    served_name: str
    key: str = field(repr=False)
    threads: int


class Engine(Protocol):
    def check(self, options: Mapping[str, Any], *, max_context_tokens: int | None) -> dict[str, int]:
        """The options filled up with defaults, or BadOption naming the one that is wrong and what it takes.

        `max_context_tokens` is the model's own bound; None: no source lists it.
        """
        ...

    def spec(self, job: Job, options: Mapping[str, int]) -> LaunchSpec:
        """What to run with checked options. Pure: no file is read, no port is taken."""
        ...


def whole_number(options: Mapping[str, Any], name: str, *, default: int, least: int, most: int) -> int:
    value = options.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise BadOption(name, f"{name} takes a whole number from {least} to {most}")
    return value
