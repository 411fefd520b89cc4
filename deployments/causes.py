"""Why an engine ended, from its exit code and its last lines. Pure; the line that says so is the evidence."""

import re
import signal
from collections.abc import Iterable
from dataclasses import dataclass

from catalog.lifecycle import Reason as Came
from catalog.models import Weights
from deployments.lifecycle import Reason

# In this order: an allocation that fails is also reported as a model that could not be loaded.
SIGNS = (
    (Reason.DISK_FULL, re.compile(r"no space left on device|disk quota exceeded|ENOSPC", re.I)),
    (
        Reason.OUT_OF_MEMORY,
        re.compile(
            r"bad_alloc|(out of|insufficient) memory|(failed|unable|cannot|can't) to allocate|cannot allocate memory"
            r"|MemoryError|alloc\w* (of .{1,40} )?failed|failed to mmap",
            re.I,
        ),
    ),
    (
        Reason.BAD_OPTION,
        re.compile(r"unrecognized argument|invalid (choice|argument|option)|unknown (option|argument)", re.I),
    ),
    (
        Reason.BAD_WEIGHTS,
        re.compile(
            r"invalid magic|(failed|unable|error) (to )?(load|open|loading|read)\w* .{0,20}(model|gguf|tensor|weights)"
            r"|unknown model architecture|not (a|within) .{0,20}(gguf|file)"
            r"|tensor .{1,120} (is not within|missing|corrupt)"
            r"|failed to read (magic|key|tensor)",
            re.I,
        ),
    ),
    (Reason.BACKEND_REFUSED, re.compile(r"the engine could not be started", re.I)),
)  # fmt: skip
# The next start would end in the same way: there is no sense in trying again.
FINAL = frozenset({Reason.BAD_OPTION, Reason.BAD_WEIGHTS, Reason.TOO_LARGE, Reason.DISK_FULL})


@dataclass(frozen=True, slots=True)
class Cause:
    """`reason` is NONE if nothing says why; `evidence` begins with the line that says it, if one does."""

    reason: Reason
    evidence: str

    @property
    def is_final(self) -> bool:
        return self.reason in FINAL


def of_exit(exit_code: int | None, lines: Iterable[str]) -> Cause:
    """Why an engine ended that nobody had asked to. SIGKILL is what a kernel out of memory sends."""
    log = list(lines)
    text = "\n".join(log)
    for reason, sign in SIGNS:
        for line in log:
            if sign.search(line):
                return Cause(reason, f"{line.strip()}\n\n{text}")
    if exit_code == -signal.SIGKILL:
        killed = "It was ended by SIGKILL, which nobody here sent: so the kernel ends what runs out of memory."
        return Cause(Reason.OUT_OF_MEMORY, f"{killed}\n\n{text}".strip())
    return Cause(Reason.NONE, text or _ending(exit_code))


def too_large(size_bytes: int, memory_gib: int) -> Cause | None:
    """The weights alone, without context or engine, take more than there is."""
    if size_bytes <= memory_gib * 1024**3:
        return None
    return Cause(Reason.TOO_LARGE, f"The weights have {size_bytes:,} bytes; the hardware has {memory_gib} GiB.")


def of_weights(weights: Weights) -> Cause:
    """Why there is nothing to run: they failed on their way, or were removed."""
    match weights.reason:
        case Came.DISK_FULL:
            reason = Reason.DISK_FULL
        case Came.HUB_REFUSED:
            reason = Reason.HUB_REFUSED
        case Came.HUB_AWAY | Came.STALLED | Came.BUCKET_AWAY:
            reason = Reason.HUB_AWAY
        case _:
            reason = Reason.BAD_WEIGHTS
    return Cause(reason, f"{Came(weights.reason).label}. {weights.detail}".strip())


def _ending(exit_code: int | None) -> str:
    if exit_code is None:
        return "It ended, and nobody could write down how."
    return f"It wrote nothing and ended with {'signal' if exit_code < 0 else 'exit code'} {abs(exit_code)}."
