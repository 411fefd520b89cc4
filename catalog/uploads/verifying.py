"""A finished draft: each file is read from end to end, its header parsed, and all of them held against each other."""

import hashlib
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from catalog import offers
from catalog.errors import BadWeights
from catalog.models import Model, Weights
from catalog.uploads import contents, drafts, headers, spool, storing
from catalog.uploads.contents import File
from catalog.uploads.headers import Header
from catalog.uploads.models import Draft, Upload

log = logging.getLogger(__name__)

BLOCK_BYTES = 8 * 1024 * 1024
TELL_EVERY = 32 * 1024 * 1024


def verify(draft_id: UUID) -> None:
    """Ready or refused, with the reason; safe to run twice, and by two at once."""
    draft = drafts.claim(draft_id)
    if draft is None:
        return
    try:
        _verify(draft)
    except BadWeights as error:
        _refuse(draft, str(error))
    except Exception as error:
        log.exception("the upload %s could not be verified", draft.pk)
        full = isinstance(error, OSError) and error.errno in spool.NO_ROOM
        what = "The portal's disk is full." if full else "Something went wrong in the portal."
        _refuse(draft, f"{what} Nothing is lost: tell the operator, then verify again.")


def _verify(draft: Draft) -> None:
    files, digests = _read(draft)
    whole = contents.check_set(files)
    base = _base_weights(draft.base, is_needed=whole.is_adapter)
    if whole.is_adapter and base:
        contents.check_fits(whole, header_of(base))
    storing.store(draft, whole, digests, base=base)


def _read(draft: Draft) -> tuple[dict[str, File], dict[str, str]]:
    """Every file, and its sha256; or BadWeights that names the bad ones. Those are removed, the others are kept."""
    files: dict[str, File] = {}
    digests: dict[str, str] = {}
    done = 0
    refused: list[tuple[str, str]] = []
    for upload in draft.uploads.filter(state=Upload.State.COMPLETE):
        path = spool.path(upload.pk)
        try:
            files[upload.filename] = contents.check_file(upload.filename, path)
            digests[upload.filename] = _sha256(path, partial(_tell, draft, done))
            if upload.sha256 and digests[upload.filename] != upload.sha256:
                raise BadWeights(f"its sha256 is {digests[upload.filename]}, and {upload.sha256} was promised")
        except BadWeights as error:
            refused.append((upload.filename, str(error)))
            _refuse_file(upload, str(error))
        done += upload.length
        drafts.tell(draft, done)
    if refused:
        said = " ".join(f"{name}: {reason}." for name, reason in refused[:5])
        raise BadWeights(f"{said} Nothing of what is named was kept: upload good files in its place.")
    return files, digests


def _tell(draft: Draft, before: int, read: int) -> None:
    drafts.tell(draft, before + read)


def _sha256(path: Path, tell: Callable[[int], None]) -> str:
    """Of what really lies on the disk."""
    digest, read, told = hashlib.sha256(), 0, 0
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
            read += len(block)
            if read - told >= TELL_EVERY:
                told = read
                tell(read)
    return digest.hexdigest()


def _base_weights(base: Model | None, *, is_needed: bool) -> Weights | None:
    """The base's weights that are here, if there are any; an adapter needs them."""
    if base is None:
        if is_needed:
            raise BadWeights("A LoRA adapter needs its base model: choose it, and verify again.")
        return None
    offer = offers.deployable_offer(base)
    found = offer.weights if offer and offer.weights and offer.weights.is_ready else None
    if found is None and is_needed:
        raise BadWeights(f"{base.name} can't be deployed here, nor can an adapter for it. Bring its weights first.")
    return found


def header_of(weights: Weights) -> Header:
    """Of weights that are here already: one file, or all files of a folder."""
    path = Path(weights.path)
    if path.is_file():
        return headers.READERS[f".{weights.format}"](path)
    parts = [headers.READERS[f".{weights.format}"](part) for part in sorted(path.glob(f"*.{weights.format}"))]
    tensors = {name: shape for part in parts for name, shape in part.tensors.items()}
    return Header(weights.format, tensors)


def _refuse_file(upload: Upload, reason: str) -> None:
    Upload.objects.filter(pk=upload.pk).update(state=Upload.State.REFUSED, reason=reason, touched_at=timezone.now())
    spool.remove(upload.pk)


def _refuse(draft: Draft, reason: str) -> None:
    with transaction.atomic():
        Draft.objects.filter(pk=draft.pk, status=Draft.Status.VERIFYING).update(
            status=Draft.Status.REFUSED, reason=reason, lease_until=None, touched_at=timezone.now()
        )
    log.info("the upload %s was refused: %s", draft.pk, reason)
