"""A file that is on its way here: open, locked, and as long as what has come of it."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from catalog import store
from catalog.models import Weights, WeightsFile


class WrittenByAnother(Exception):
    """Another process has the file: whoever comes second leaves it."""


class Part:
    """A file that is on its way, open and locked: the lock is the kernel's, and ends with the process."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._fd)
            raise WrittenByAnother from error
        self._size = os.fstat(self._fd).st_size

    def size(self) -> int:
        return self._size

    def cut(self, size: int) -> None:
        if size != self._size:
            os.ftruncate(self._fd, size)
            self._size = size

    def write(self, block: bytes) -> None:
        view = memoryview(block)
        while view:
            count = os.pwrite(self._fd, view, self._size)
            view, self._size = view[count:], self._size + count

    def sync(self) -> None:
        os.fsync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


@contextlib.contextmanager
def opened(weights: Weights, file: WeightsFile) -> Iterator[Part]:
    part = Part(path_of(weights, file))
    try:
        yield part
    finally:
        part.close()


def path_of(weights: Weights, file: WeightsFile) -> Path:
    """Named by the row's number alone: no name that somebody gave becomes a path here."""
    return store.incoming_folder(weights.pk) / f"{file.pk}.part"
