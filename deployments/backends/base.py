"""What a backend is: it runs launch specs somewhere and says truly what runs."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from deployments.launch import LaunchSpec


class Seen(StrEnum):
    ABSENT = "absent"  # never asked for here, or nothing is left of it
    STARTING = "starting"  # the process lives and is not healthy yet
    READY = "ready"
    EXITED = "exited"


@dataclass(frozen=True, slots=True)
class Observation:
    """What the backend itself says. Times are the engine process's own start and exit."""

    seen: Seen
    address: str = ""
    started_at: datetime | None = None
    exited_at: datetime | None = None
    exit_code: int | None = None


class Backend(Protocol):
    """Runs launch specs somewhere. Every method may be called twice and returns soon; nothing is kept in memory."""

    def ensure(self, spec: LaunchSpec) -> None:
        """After this an engine of that name runs, or BackendError. Ten calls make one engine."""
        ...

    def observe(self, name: str) -> Observation: ...

    def remove(self, name: str) -> None:
        """Begin to end it; done when `observe` says EXITED or ABSENT. Its log is kept."""
        ...

    def running(self) -> Iterable[str]:
        """The names of what really runs: the truth that the sweep for orphans holds the rows against."""
        ...

    def log(self, name: str, *, lines: int) -> list[str]: ...
