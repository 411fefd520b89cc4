"""The bytes of one upload on the portal's disk, until they are verified: one file, written by one request at a time."""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from uuid import UUID

from django.conf import settings

from catalog.uploads.errors import Refused

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
WRITTEN_BY_ANOTHER = "Another request is writing this upload. Wait until it has ended, then ask for the offset (HEAD)."


class Spool:
    """An open, locked file. The lock is the kernel's: it ends with the process, however that ends."""

    def __init__(self, pk: UUID) -> None:
        """Open and lock it, or 423 if another request, of any process, has it."""
        folder().mkdir(parents=True, exist_ok=True, mode=0o700)
        self._fd = os.open(path(pk), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._fd)
            raise Refused(423, WRITTEN_BY_ANOTHER) from error

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def cut(self, offset: int) -> None:
        """Forget what stands behind `offset`: nobody was told that it is kept."""
        if self.size() != offset:
            os.ftruncate(self._fd, offset)

    def write(self, data: bytes, *, at: int) -> None:
        """All of it, or 507 if the disk has no room."""
        view = memoryview(data)
        try:
            while view:
                count = os.pwrite(self._fd, view, at)
                view, at = view[count:], at + count
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise no_room() from error

    def sync(self) -> None:
        """From now on the bytes outlive a power cut."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise no_room() from error

    def close(self) -> None:
        os.close(self._fd)


def folder() -> Path:
    return Path(settings.UPLOADS_DIR)


def path(pk: UUID) -> Path:
    """Named by the upload's id alone: no name that somebody gave ever becomes a path here."""
    return folder() / f"{pk}.part"


def make(pk: UUID) -> None:
    """An empty file, there for good before anybody is told of it."""
    spool = Spool(pk)
    try:
        spool.sync()
        directory = os.open(folder(), os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        spool.close()


def remove(pk: UUID) -> None:
    """Gone; safe to call twice. 423 while a request writes it."""
    if path(pk).exists():
        spool = Spool(pk)
        try:
            path(pk).unlink(missing_ok=True)
        finally:
            spool.close()


def remove_strangers(known: Collection[str], *, older_than: datetime) -> None:
    """Files that no upload knows: what a process left that was killed between the file and the row."""
    if not folder().exists():
        return
    for found in folder().glob("*.part"):
        if found.stem not in known and found.stat().st_mtime < older_than.timestamp():
            found.unlink(missing_ok=True)


def free_bytes() -> int:
    """Room on the disk that uploads may still take."""
    with contextlib.suppress(FileNotFoundError):
        return max(0, shutil.disk_usage(folder()).free - settings.UPLOADS_KEEP_FREE)
    folder().mkdir(parents=True, exist_ok=True, mode=0o700)
    return free_bytes()


def no_room() -> Refused:
    return Refused(507, "The portal's disk is full. What has arrived is kept: tell the operator, then resume.")
