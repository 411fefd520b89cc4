"""Weights on the disk: each content once under its digest, and under its name in every set that has it.

WEIGHTS_DIR/blobs/SHA256            the content
WEIGHTS_DIR/sets/WEIGHTS/NAME       the same file under another name: what an engine is given
WEIGHTS_DIR/incoming/WEIGHTS/       what is still on its way here
"""

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.db import transaction

from catalog.models import Blob, Weights
from catalog.uploads.models import Draft

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
OTHER_DISK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP}


def set_folder(weights_id: UUID) -> Path:
    return Path(settings.WEIGHTS_DIR) / "sets" / str(weights_id)


def incoming_folder(weights_id: UUID) -> Path:
    return Path(settings.WEIGHTS_DIR) / "incoming" / str(weights_id)


def blob_path(sha256: str) -> Path:
    return Path(settings.WEIGHTS_DIR) / "blobs" / sha256


def place(source: Path, sha256: str, target: Path) -> None:
    """The content under its digest, and under its name in the set: one file on the disk, however many names."""
    blob = blob_path(sha256)
    blob.parent.mkdir(parents=True, exist_ok=True)
    if not blob.exists():
        _link(source, blob)
        sync(blob.parent)
    target.unlink(missing_ok=True)
    _link(blob, target)


def sync(path: Path) -> None:
    """From now on what was written there outlives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest_of(digests: Mapping[str, str]) -> str:
    """A single file's own; of several, that of the list `digest  name`, sorted by name, as sha256sum prints it."""
    if len(digests) == 1:
        return next(iter(digests.values()))
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def free_bytes() -> int:
    """Room on the disk that weights may still take."""
    folder = Path(settings.WEIGHTS_DIR)
    folder.mkdir(parents=True, exist_ok=True)
    return max(0, shutil.disk_usage(folder).free - settings.UPLOADS_KEEP_FREE)


def drop_incoming(weights_id: UUID) -> None:
    """What had come of them is gone; safe to call twice."""
    shutil.rmtree(incoming_folder(weights_id), ignore_errors=True)


def drop(weights_id: UUID) -> None:
    """Their names on the disk are gone. Content goes with the last name of it: forget_unused()."""
    drop_incoming(weights_id)
    shutil.rmtree(set_folder(weights_id), ignore_errors=True)


def forget_unused() -> list[str]:
    """Content that no file of any weights has goes; returns which. A set that is being stored has a name of its own
    for what it uses, so it loses nothing."""
    gone = []
    for sha256 in Blob.objects.filter(files=None).values_list("pk", flat=True):
        with transaction.atomic():
            row = Blob.objects.select_for_update().filter(pk=sha256).first()
            if row is None or row.files.exists():
                continue  # a set that was being stored has it now
            row.delete()
            blob_path(sha256).unlink(missing_ok=True)
            gone.append(sha256)
    return gone


def forget_strangers(*, older_than: datetime) -> int:
    """Files without a row: what a process left that was killed between the two, or while it removed them."""
    root, gone = Path(settings.WEIGHTS_DIR), 0
    blobs = _older(root / "blobs", older_than)
    known = set(Blob.objects.filter(pk__in=[path.name for path in blobs]).values_list("pk", flat=True))
    for path in blobs:
        if path.name not in known:
            path.unlink(missing_ok=True)
            gone += 1
    folders = [*_older(root / "sets", older_than), *_older(root / "incoming", older_than)]
    folders = [path for path in folders if _is_id(path.name)]
    names = [path.name for path in folders]
    kept = set(Weights.objects.kept().filter(pk__in=names).values_list("pk", flat=True)) | set(_verified_drafts(names))
    for path in folders:
        if UUID(path.name) not in kept:
            shutil.rmtree(path, ignore_errors=True)
            gone += 1
    return gone


def _verified_drafts(names: list[str]) -> list[UUID]:
    """A draft that is being stored has a folder of its own name before it has its weights."""
    verifying = Draft.objects.filter(pk__in=names, status=Draft.Status.VERIFYING)
    return list(verifying.values_list("pk", flat=True))


def _older(folder: Path, moment: datetime) -> list[Path]:
    """What lies there and has not changed since."""
    if not folder.exists():
        return []
    return [path for path in folder.iterdir() if path.stat().st_ctime < moment.timestamp()]


def _is_id(name: str) -> bool:
    with contextlib.suppress(ValueError):
        return str(UUID(name)) == name
    return False


def _link(source: Path, target: Path) -> None:
    """Another name for the file; a copy where the disk is another one."""
    with contextlib.suppress(FileExistsError):
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in OTHER_DISK:
                raise
            part = target.with_name(f"{target.name}.part")
            shutil.copyfile(source, part)
            sync(part)
            part.rename(target)
