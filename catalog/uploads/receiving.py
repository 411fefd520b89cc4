"""Taking in files: an upload is begun, grows by PATCHes, and ends. What a client is told is on the disk is there."""

import hashlib
import hmac
import re
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts.models import Team
from catalog.errors import BadWeights
from catalog.models import Model, Weights
from catalog.uploads import contents, spool, storing
from catalog.uploads.errors import Refused
from catalog.uploads.models import Draft, Upload
from catalog.uploads.protocol import CHECKSUM_MISMATCH, Chunk
from catalog.uploads.spool import Spool

CHECKPOINT_BYTES = 16 * 1024 * 1024
MOST_FILES = 1000
UNKNOWN = "There is no such upload."
DRAFT_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,58}")
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file that somebody is about to send. `draft` is the name of the weights entry that it will be part of."""

    draft: str
    filename: str
    length: int
    sha256: str = ""
    metadata: str = ""


def begin(team: Team, wanted: Wanted, *, actor: str) -> Upload:
    """Room for the file and a row that says so, or Refused. A file of the same name in the draft is replaced."""
    _check(wanted)
    try:
        contents.check_name(wanted.filename)
    except BadWeights as error:
        raise Refused(400, str(error)) from error
    pk = uuid4()
    spool.make(pk)
    try:
        upload, replaced = _row(pk, team, wanted, actor)
    except BaseException:
        spool.remove(pk)
        raise
    for old in replaced:
        spool.remove(old)
    return upload


def find(team: Team, pk: UUID) -> Upload:
    """The team's upload that can still be read or written; 404 for another team's, 410 for one that has ended."""
    upload = Upload.objects.of(team).filter(pk=pk).select_related("draft").first()
    if upload is None:
        raise Refused(404, UNKNOWN)
    if upload.has_expired(timezone.now()):
        raise Refused(410, f"The upload expired on {upload.expires_at:%d %B %Y %H:%M} UTC. Begin it again.")
    if upload.state in {Upload.State.REFUSED, Upload.State.GONE}:
        raise Refused(410, upload.reason or "The upload was ended. Begin it again.")
    return upload


def end(upload: Upload, reason: str) -> None:
    """Its bytes are removed at once; the row stays for a while to say why. 423 while a request writes it."""
    with transaction.atomic():
        draft = Draft.objects.select_for_update().get(pk=upload.draft_id)
        upload.refresh_from_db()
        if upload.state == Upload.State.STORED:
            raise Refused(409, "The file is part of verified weights: delete those.")
        if draft.status == Draft.Status.VERIFYING:
            raise Refused(409, "The file is being verified. Wait until that has ended.")
        spool.remove(upload.pk)
        Upload.objects.filter(pk=upload.pk).update(state=Upload.State.GONE, reason=reason, touched_at=timezone.now())


def expiry() -> datetime:
    return timezone.now() + timedelta(hours=settings.UPLOADS_EXPIRE_HOURS)


class Receiving:
    """One PATCH at work. Its methods run in threads, one at a time; `keep` and `close` may come at any moment."""

    def __init__(self, upload: Upload, chunk: Chunk) -> None:
        """The offset is the upload's and the body fits, or Refused; from now on no other request writes it."""
        self._lock = threading.Lock()
        self._spool = Spool(upload.pk)
        try:
            upload = find(upload.draft.team, upload.pk)
            _check_chunk(upload, chunk)
            self._spool.cut(upload.offset)
        except BaseException:
            self._spool.close()
            raise
        self.upload = upload
        self.durable = self.written = upload.offset
        self._checksum = chunk.checksum
        self._hash = hashlib.new(chunk.checksum.algorithm, usedforsecurity=False) if chunk.checksum else None
        self._closed = False

    def room(self) -> int:
        """Bytes that may still come."""
        return self.upload.length - self.written

    def write(self, data: bytes) -> None:
        """Onto the disk. Without a checksum, what has come is made durable now and then."""
        with self._lock:
            if self._closed:
                return
            self._spool.write(data, at=self.written)
            self.written += len(data)
            if self._hash:
                self._hash.update(data)
            elif self.written - self.durable >= CHECKPOINT_BYTES:
                self._checkpoint()

    def finish(self) -> int:
        """The body is whole: its checksum holds or nothing of it is kept. The offset that is durable now."""
        with self._lock:
            if self._hash and self._checksum and not hmac.compare_digest(self._hash.digest(), self._checksum.digest):
                self._spool.cut(self.durable)
                self.written = self.durable
                raise Refused(CHECKSUM_MISMATCH, "The bytes don't have the checksum that was sent. Send them again.")
            self._checkpoint()
            return self.durable

    def keep(self) -> None:
        """The body was cut off: what came of it is kept, but nothing that a checksum should have vouched for."""
        with self._lock:
            if self._closed:
                return
            if self._hash:
                self._spool.cut(self.durable)
            else:
                self._checkpoint()

    def close(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                self._spool.close()

    def _checkpoint(self) -> None:
        """First the disk, then the row, then the client may be told."""
        whole = self.written == self.upload.length
        if self.written == self.durable and not whole:
            return
        self._spool.sync()
        now = timezone.now()
        state = Upload.State.COMPLETE if whole else Upload.State.RECEIVING
        rows = Upload.objects.filter(pk=self.upload.pk, state=Upload.State.RECEIVING, offset=self.durable)
        if not rows.update(offset=self.written, state=state, touched_at=now, expires_at=expiry()):
            raise Refused(410, "The upload was ended while it was written.")
        Draft.objects.filter(pk=self.upload.draft_id).update(touched_at=now)
        self.durable = self.written


def _check(wanted: Wanted) -> None:
    if not DRAFT_NAME.fullmatch(wanted.draft):
        raise Refused(
            400,
            "Upload-Metadata must name the weights: `weights` is a name of a-z, 0-9, '.' and '-', 59 at most.",
        )
    if wanted.sha256 and not SHA256.fullmatch(wanted.sha256):
        raise Refused(400, "Upload-Metadata: sha256 is the file's digest as 64 hexadecimal digits.")
    if wanted.length > spool.free_bytes():
        raise Refused(507, "The portal's disk has no room for this file. Tell the operator.")


def _row(pk: UUID, team: Team, wanted: Wanted, actor: str) -> tuple[Upload, list[UUID]]:
    """The new row and the uploads that it replaces. The team's row is locked, so that two can't pass the quota."""
    with transaction.atomic():
        Team.objects.select_for_update(no_key=True).get(pk=team.pk)
        draft = _draft(team, wanted.draft, actor)
        older = list(draft.uploads.filter(filename=wanted.filename, state__in=["receiving", "complete"]))
        _check_quota(team, wanted.length - sum(old.length for old in older))
        if draft.uploads.filter(state__in=["receiving", "complete"]).count() >= MOST_FILES:
            raise Refused(413, f"Weights have at most {MOST_FILES} files.")
        draft.uploads.filter(pk__in=[old.pk for old in older]).update(
            state=Upload.State.GONE, reason="Another upload of the same file took its place."
        )
        draft.uploads.filter(filename=wanted.filename, state=Upload.State.REFUSED).delete()
        upload = Upload.objects.create(
            id=pk,
            draft=draft,
            filename=wanted.filename,
            length=wanted.length,
            sha256=wanted.sha256,
            metadata=wanted.metadata,
            state=Upload.State.RECEIVING if wanted.length else Upload.State.COMPLETE,
            expires_at=expiry(),
        )
    return upload, [old.pk for old in older]


def _draft(team: Team, name: str, actor: str) -> Draft:
    others = Q(weights__source_kind=Weights.SourceKind.HUB) | ~Q(team=team)
    if Model.objects.filter(others, slug=storing.slug_of(team, name)).exists():
        raise Refused(409, f"The name {name} is taken here by another model. Choose another.")
    made, _ = Draft.objects.unfinished().get_or_create(team=team, name=name, defaults={"created_by": actor})
    draft = Draft.objects.select_for_update().get(pk=made.pk)
    if draft.status == Draft.Status.VERIFYING:
        raise Refused(409, f"{name} is being verified. Wait until that has ended.")
    draft.status, draft.reason, draft.touched_at = Draft.Status.OPEN, "", timezone.now()
    draft.save(update_fields=["status", "reason", "touched_at"])
    return draft


def _check_quota(team: Team, more: int) -> None:
    quota = storing.most_bytes(team)
    held = Upload.objects.of(team).held_bytes() + storing.stored_bytes(team)
    if quota is not None and held + more > quota:
        raise Refused(
            413,
            f"The team may keep {quota} bytes of weights and has {held}; this file would make it {held + more}."
            " Delete weights or uploads that are not needed, or ask the portal's administrators for more.",
        )


def _check_chunk(upload: Upload, chunk: Chunk) -> None:
    if chunk.offset != upload.offset:
        raise Refused(
            409,
            f"The upload has {upload.offset} bytes; this chunk begins at {chunk.offset}. Go on from there.",
            headers={"Upload-Offset": str(upload.offset)},
        )
    if chunk.length is not None and chunk.length > upload.length - upload.offset:
        raise Refused(
            413, f"{chunk.length} bytes more would make the file longer than its Upload-Length, {upload.length}."
        )
