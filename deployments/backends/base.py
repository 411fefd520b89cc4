"""What a backend is: it runs launch specs somewhere and says truly what runs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from deployments.launch import LaunchSpec


class Seen(StrEnum):
    ABSENT = "absent"  # never started here, or nothing is left of it
    STARTING = "starting"  # the process lives and does not answer its health check
    READY = "ready"
    EXITED = "exited"


@dataclass(frozen=True, slots=True)
class Observation:
    """What the backend itself says. Times are the engine process's own.

    `alive_at`: it was seen alive then, by the clock that also says `exited_at`, so that uptime never runs backwards.
    `asked`: it ended because somebody asked it to, or with the machine; not a crash.
    """

    seen: Seen
    address: str = ""
    started_at: datetime | None = None
    alive_at: datetime | None = None
    exited_at: datetime | None = None
    exit_code: int | None = None
    asked: bool = False

    @property
    def alive(self) -> bool:
        return self.seen in {Seen.STARTING, Seen.READY}


class Backend(Protocol):
    """Runs launch specs somewhere. Every method may be called twice and returns soon; nothing is kept in memory."""

    def ensure(self, spec: LaunchSpec) -> None:
        """After this an engine of that name has been started, or BackendError. Ten calls, also at once, make one
        engine. A name lives once: an engine that has ended, or was removed, is not started again."""
        ...

    def observe(self, name: str) -> Observation: ...

    def observe_all(self, names: Iterable[str]) -> Mapping[str, Observation]:
        """The same for many at once: a thousand, among them some that hang, take no longer than the slowest one."""
        ...

    def remove(self, name: str) -> None:
        """Begin to end it, and let nobody start it any more. Done when `observe` says EXITED or ABSENT and `running`
        lacks it: call it again until then. Its log is kept."""
        ...

    def running(self) -> Iterable[str]:
        """The names of what really runs: the truth that the sweep for orphans holds the rows against."""
        ...

    def log(self, name: str, *, lines: int) -> list[str]:
        """The engine's last lines, oldest first; none for an unknown name."""
        ...

    def log_span(self, name: str) -> tuple[int, int]:
        """(first, end): positions in the engine's whole output, in bytes, of what is kept of it. (0, 0) for an unknown
        name. It is kept after the engine's death, until `forget`."""
        ...

    def log_bytes(self, name: str, *, begin: int, end: int) -> bytes:
        """What it wrote from one position up to another, as far as that is kept."""
        ...

    def memory(self, name: str) -> int | None:
        """How many bytes the live engine's process has in memory; None if that is not known."""
        ...

    def kept(self) -> Mapping[str, datetime]:
        """Every name of which something is kept, dead or alive, and when something was last written there."""
        ...

    def forget(self, name: str) -> None:
        """Drop what is kept of an engine that has ended. One that runs is left alone."""
        ...
