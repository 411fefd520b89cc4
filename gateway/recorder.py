"""What each call of this process has used so far, in a file that outlives the process.

A gateway that is killed takes its memory with it, but not what it wrote into a mapped file: the kernel keeps that. The
next gateway on the machine settles those calls by what the dead one had read, to the last event, and releases those
whose first byte had not come. Where the machine or its disk is gone too, the sweep settles what the leases say.

A file is a row of slots, one a call: its id and two records, written in turn, so that one of them is whole whenever
the process dies; a record has a number and a checksum. Nothing is flushed: this is about a process's death, not a power
cut. The file is locked as long as its process lives, so whoever gets the lock knows that it does not.
"""

import fcntl
import logging
import mmap
import os
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson

from gateway.usage import Tally

log = logging.getLogger(__name__)

SLOTS = 2048
SLOT, RECORD, ID = 2048, 1016, 16
# Number, when, begun, ended, whole, has output, estimate of the prompt, chunks, characters, counted at, length of JSON.
HEAD = struct.Struct("<Qd????IIQIH")
CHECK = struct.Struct("<I")
ROOM = RECORD - CHECK.size - HEAD.size
ENDING = ".calls"
NOBODY = bytes(ID)
UNWRITTEN = bytes(CHECK.size + HEAD.size)


@dataclass(frozen=True, slots=True)
class Left:
    """A call that its gateway did not close. `begun`: something of the answer had come, at last at `at`; `measured`:
    all of it, and the provider's own count."""

    id: UUID
    tally: Tally
    begun: bool
    measured: bool
    at: datetime


@dataclass(slots=True, eq=False)
class Slot:
    """One call's place. `at` None: all places were taken, or there is no file; then nothing is noted."""

    tally: Tally
    recorder: "Recorder"
    at: int | None = None
    begun: bool = False
    ended: bool = False
    number: int = 0
    json: bytes = b""
    seen: Any = field(default=None)

    def note(self, *, begun: bool, ended: bool = False) -> None:
        """Write down what the tally says. From the first time on that `begun` is true the call will be billed; `ended`:
        no more will come."""
        memory = self.recorder.memory
        if self.at is None or memory is None:
            return
        self.begun, self.ended, self.number = self.begun or begun, ended, self.number + 1
        tally = self.tally
        if tally.usage is not self.seen:
            self.seen, self.json = tally.usage, _as_json(tally)
        body = self._head(tally) + self.json
        place = self.at + ID + self.number % 2 * RECORD
        memory[place : place + CHECK.size + len(body)] = CHECK.pack(zlib.crc32(body)) + body

    def close(self) -> None:
        """The call is settled or released."""
        if self.at is not None:
            self.recorder.free(self.at)
            self.at = None

    def _head(self, tally: Tally) -> bytes:
        return HEAD.pack(
            self.number,
            time.time(),
            self.begun,
            self.ended,
            tally.whole,
            tally.has_output,
            min(tally.prompt_estimate, 2**32 - 1),
            tally.chunks,
            tally.characters,
            tally.counted_at,
            len(self.json),
        )


class Recorder:
    """This process's file in `folder`. A folder that can't be written to costs no call: then nothing is noted."""

    def __init__(self, folder: Path, *, slots: int = SLOTS) -> None:
        self.memory: mmap.mmap | None = None
        self._path = folder / f"{os.getpid()}-{uuid4().hex[:8]}{ENDING}"
        self._free = [place * SLOT for place in reversed(range(slots))]
        self._slots = slots
        try:
            self._descriptor = self._made(slots * SLOT)
        except OSError as error:
            log.warning("calls are not noted in %s: %s", folder, error)

    def open(self, call_id: UUID, tally: Tally) -> Slot:
        """A place for a call that is about to be let in."""
        slot = Slot(tally, self)
        if self.memory is None or not self._free:
            return slot
        slot.at = self._free.pop()
        for place in (slot.at + ID, slot.at + ID + RECORD):  # what another call has left there is none of this one's
            self.memory[place : place + len(UNWRITTEN)] = UNWRITTEN
        slot.note(begun=False)
        self.memory[slot.at : slot.at + ID] = call_id.bytes
        return slot

    def free(self, at: int) -> None:
        if self.memory is not None:
            self.memory[at : at + ID] = NOBODY
            self._free.append(at)

    def close(self) -> None:
        """The file goes, unless a call in it was not closed: that one is for the next gateway."""
        if self.memory is None:
            return
        if len(self._free) == self._slots:
            self._path.unlink(missing_ok=True)
        self.memory.close()
        self.memory = None
        os.close(self._descriptor)

    def _made(self, size: int) -> int:
        """Under another name until it is locked: nobody shall take it for a dead one's."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        begun = self._path.with_suffix(".new")
        descriptor = os.open(begun, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(descriptor, 0, size)  # a full disk is said now, not by a signal at a write
            self.memory = mmap.mmap(descriptor, size)
            begun.rename(self._path)
        except OSError:
            begun.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        return descriptor


@dataclass(frozen=True, slots=True)
class Remains:
    """The file of a gateway that is dead, held by us alone."""

    path: Path
    descriptor: int
    calls: tuple[Left, ...]

    def forget(self) -> None:
        """All its calls are closed."""
        self.path.unlink(missing_ok=True)

    def let_go(self) -> None:
        os.close(self.descriptor)


def remains(folder: Path) -> Iterator[Remains]:
    """What dead gateways have left here. Each is to be let go of, and forgotten once its calls are closed."""
    for path in sorted(folder.glob(f"*{ENDING}")):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            content = path.read_bytes()
        except OSError:  # its process lives, or another has just taken it
            os.close(descriptor)
            continue
        yield Remains(path, descriptor, tuple(_calls(content)))


def _calls(content: bytes) -> Iterator[Left]:
    for at in range(0, len(content) - SLOT + 1, SLOT):
        name = content[at : at + ID]
        if name == NOBODY:
            continue
        records = (_read(content[at + ID + n * RECORD : at + ID + (n + 1) * RECORD]) for n in (0, 1))
        if whole := [record for record in records if record is not None]:
            yield max(whole, key=lambda record: record[0])[1](UUID(bytes=name))


def _read(record: bytes) -> tuple[int, Callable[[UUID], Left]] | None:
    """Its number, and the call but for its id. None: it was never written, or the process died while it was."""
    (check,) = CHECK.unpack_from(record)
    number, at, begun, ended, whole, has_output, prompt, chunks, characters, counted_at, length = HEAD.unpack_from(
        record, CHECK.size
    )
    end = CHECK.size + HEAD.size + length
    if not number or end > RECORD or zlib.crc32(record[CHECK.size : end]) != check:
        return None
    counted, usage = orjson.loads(record[end - length : end]) if length else ({}, None)
    tally = Tally(
        prompt_estimate=prompt,
        has_output=has_output,
        usage=usage,
        counted=counted,
        whole=whole,
        characters=characters,
        chunks=chunks,
        counted_at=counted_at,
    )
    facts = {"begun": begun, "measured": ended and tally.measured, "at": datetime.fromtimestamp(at, UTC)}
    return number, partial(Left, tally=tally, **facts)


def _as_json(tally: Tally) -> bytes:
    """The classes, and the provider's own object where it has room."""
    text = orjson.dumps([tally.counted, tally.usage])
    return text if len(text) <= ROOM else orjson.dumps([tally.counted, None])
