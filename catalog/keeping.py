"""A bucket that keeps every content beside the disk, where one is set (WEIGHTS_S3_BUCKET): the disk is then a cache.

Content goes there before its weights are ready, under blobs/SHA256, once whoever has it. What a disk has lost, or was
told to free, comes back from there when a deployment needs it, and is read from end to end again on its way.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files import File
from django.core.files.storage import storages

from catalog import store
from catalog.errors import BucketAway
from catalog.models import Blob, Weights, WeightsFile

log = logging.getLogger(__name__)
ALIAS = "weights"


def is_on() -> bool:
    return ALIAS in settings.STORAGES


def keep(sha256: str) -> None:
    """The content is in the bucket when this returns, or BucketAway. Called again, it sends nothing twice."""
    if not is_on():
        return
    path, name, bucket = store.blob_path(sha256), _name(sha256), _bucket()
    with _told():
        if bucket.exists(name) and bucket.size(name) == path.stat().st_size:
            return
        with path.open("rb") as content:
            bucket.save(name, File(content))
        if bucket.size(name) != path.stat().st_size:
            raise BucketAway("The bucket did not keep all of it.")


def forget(digests: Iterable[str]) -> None:
    """Nothing here has these contents any more. What can't be removed now only costs room there."""
    if not is_on():
        return
    try:
        for sha256 in digests:
            if not Blob.objects.filter(pk=sha256).exists():  # not brought again meanwhile
                with _told():
                    _bucket().delete(_name(sha256))
    except BucketAway as error:
        log.warning("content that nothing uses stays in the bucket: %s", error)


def is_away(weights: Weights) -> bool:
    """Ready, but not on this disk; the bucket has it."""
    return is_on() and bool(weights.path) and any(not _is_here(file) for file in weights.files.all())


def bring_back(weights: Weights, tell: Callable[[int], None]) -> None:
    """Every file on the disk again, each the one that was verified. Raises BucketAway; OSError where there is no
    room. `tell` hears how many bytes came."""
    folder = store.set_folder(weights.pk)
    folder.mkdir(parents=True, exist_ok=True)
    store.incoming_folder(weights.pk).mkdir(parents=True, exist_ok=True)
    for file in weights.files.all():
        source = store.blob_path(file.sha256)
        if not source.exists():
            source = store.incoming_folder(weights.pk) / f"{file.pk}.part"
            _bring(file, source, tell)
        store.place(source, file.sha256, folder / file.name)
    store.sync(folder)
    store.drop_incoming(weights.pk)


def free(weights: Weights) -> int:
    """Its bytes leave the disk, but for what other weights use; how many went. The bucket has all of it."""
    if not is_on():
        raise BucketAway("No bucket is set: what leaves the disk would be lost.")
    files = list(weights.files.all())
    for file in files:
        if store.blob_path(file.sha256).exists():
            keep(file.sha256)
    store.drop(weights.pk)
    gone = 0
    for file in files:
        path = store.blob_path(file.sha256)
        if path.exists() and path.stat().st_nlink == 1:
            gone += path.stat().st_size
            path.unlink()
    return gone


def _is_here(file: WeightsFile) -> bool:
    path = store.set_folder(file.weights_id) / file.name
    return path.exists() and path.stat().st_size == file.size_bytes


def _bring(file: WeightsFile, part: Path, tell: Callable[[int], None]) -> None:
    with _told(), part.open("wb") as target:
        _bucket().bucket.download_fileobj(_name(file.sha256), target, Callback=tell)
        target.flush()
        os.fsync(target.fileno())
    with part.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != file.sha256:
        part.unlink()
        raise BucketAway(f"{file.name}: what the bucket has is not what was put there: its sha256 is {found}.")


def _name(sha256: str) -> str:
    return f"{settings.WEIGHTS_S3_PREFIX}blobs/{sha256}"


def _bucket() -> Any:
    return storages[ALIAS]


class _told:
    """Whatever the bucket's client raises becomes a BucketAway that names no key."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: object) -> None:
        from boto3.exceptions import Boto3Error  # slow to import, and only where there is a bucket
        from botocore.exceptions import BotoCoreError, ClientError

        if isinstance(error, ClientError):
            code = error.response.get("Error", {}).get("Code", "")
            raise BucketAway(f"The bucket refused: {code}.") from error
        if isinstance(error, BotoCoreError | Boto3Error):
            raise BucketAway("The bucket can't be reached.") from error
