"""A draft's way: files are added, it is finished, a worker verifies it, and it is a version of the weights, or refused.

Nothing here reads a file; verifying.py does.
"""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts import audit
from accounts.models import Team
from catalog.models import Licence, Model
from catalog.uploads import receiving, spool
from catalog.uploads.errors import Refused
from catalog.uploads.models import Draft, Upload

LEASE = timedelta(seconds=60)
REMEMBERED = timedelta(days=7)
ORPHANED = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Card:
    """What people say of their weights: what they were tuned from, under which licence they are, anything else."""

    base: Model | None = None
    licence: Licence | None = None
    notes: str = ""


def of(team: Team) -> list[Draft]:
    """Those that wait for something, and what the last ones became; newest first."""
    rows = Draft.objects.of(team).exclude(status=Draft.Status.GONE)
    return list(rows.select_related("base", "licence", "weights").prefetch_related("uploads")[:50])


def unfinished(team: Team) -> list[Draft]:
    """Those that wait for more files, for a word of somebody, or for their verifying; and those that were refused."""
    return list(Draft.objects.of(team).exclude(status__in=(Draft.Status.READY, Draft.Status.GONE))[:50])


def find(team: Team, pk: UUID) -> Draft:
    draft = Draft.objects.of(team).filter(pk=pk).select_related("base", "licence", "weights", "team").first()
    if draft is None:
        raise Refused(404, "There is no such draft.")
    return draft


def files(draft: Draft) -> list[Upload]:
    """Its files as they are now: those that came or are coming, and those that were refused."""
    return [row for row in draft.uploads.all() if row.state != Upload.State.GONE]


def finish(draft: Draft, card: Card, *, actor: str) -> None:
    """All files are here: from now on a worker verifies them. Refused with what is missing; safe to call twice."""
    with transaction.atomic():
        row = Draft.objects.select_for_update().get(pk=draft.pk)
        if row.status == Draft.Status.VERIFYING:
            return
        if row.status in {Draft.Status.READY, Draft.Status.GONE}:
            raise Refused(409, f"{row.name} is finished. Another upload of that name makes its next version.")
        _check_whole(files(row))
        row.base, row.licence, row.notes = card.base, card.licence, card.notes
        row.status, row.reason, row.checked_bytes, row.lease_until = Draft.Status.VERIFYING, "", 0, None
        row.touched_at = timezone.now()
        row.save()
        said = {"base": str(card.base or ""), "licence": str(card.licence or ""), "notes": card.notes}
        audit.record(row.team, actor=actor, verb="had an upload verified", subject=row.name, after=said)
    draft.refresh_from_db()


def give_up(draft: Draft, *, actor: str) -> None:
    """Its files are removed at once, and the name is free again."""
    with transaction.atomic():
        row = Draft.objects.select_for_update().get(pk=draft.pk)
        if row.status == Draft.Status.VERIFYING:
            raise Refused(409, f"{row.name} is being verified. Wait until that has ended.")
        if row.status == Draft.Status.READY:
            raise Refused(409, f"{row.name} is finished: remove the weights that it became.")
        for upload in row.uploads.kept():
            receiving.end(upload, "The draft was given up.")
        Draft.objects.filter(pk=row.pk).update(status=Draft.Status.GONE, touched_at=timezone.now())
        audit.record(row.team, actor=actor, verb="gave up the upload", subject=row.name)


def claim(draft_id: UUID) -> Draft | None:
    """The draft, for the one worker that may verify it now; None if another does, or nothing is to be done."""
    now = timezone.now()
    free = Q(lease_until=None) | Q(lease_until__lt=now)
    if not Draft.objects.filter(free, pk=draft_id, status=Draft.Status.VERIFYING).update(lease_until=now + LEASE):
        return None
    return Draft.objects.select_related("base", "licence", "team").get(pk=draft_id)


def tell(draft: Draft, checked_bytes: int) -> None:
    """How far the verification has come; the worker goes on having it."""
    Draft.objects.filter(pk=draft.pk).update(checked_bytes=checked_bytes, lease_until=timezone.now() + LEASE)


def waiting() -> list[UUID]:
    """Drafts that should be verified and are by nobody: a message was lost, or a worker was."""
    now = timezone.now()
    free = Q(lease_until__lt=now) | Q(lease_until=None, touched_at__lt=now - timedelta(seconds=5))
    return list(Draft.objects.filter(free, status=Draft.Status.VERIFYING).values_list("pk", flat=True))


def forget_old() -> None:
    """Expired uploads go, with their bytes; what was remembered of ended ones goes later; so do files of nobody."""
    now = timezone.now()
    for upload in Upload.objects.filter(state=Upload.State.RECEIVING, expires_at__lte=now).select_related("draft"):
        _unless_written(upload, "The upload expired.")
    stale = now - timedelta(hours=settings.UPLOADS_EXPIRE_HOURS)
    for draft in Draft.objects.filter(status__in=["open", "refused"], touched_at__lte=stale):
        for upload in draft.uploads.kept().select_related("draft"):
            _unless_written(upload, "The upload expired.")
        if not draft.uploads.kept().exists():
            Draft.objects.filter(pk=draft.pk).update(status=Draft.Status.GONE, touched_at=now)
    ended = [Upload.State.GONE, Upload.State.REFUSED]
    Upload.objects.filter(state__in=ended, touched_at__lte=now - REMEMBERED).delete()
    Draft.objects.filter(status=Draft.Status.GONE, touched_at__lte=now - REMEMBERED).delete()
    kept = {str(pk) for pk in Upload.objects.kept().values_list("pk", flat=True)}
    spool.remove_strangers(kept, older_than=now - ORPHANED)


def _unless_written(upload: Upload, reason: str) -> None:
    try:
        receiving.end(upload, reason)
    except Refused:
        return


def _check_whole(uploads: list[Upload]) -> None:
    coming = [upload.filename for upload in uploads if upload.state == Upload.State.RECEIVING]
    if coming:
        raise Refused(409, f"Still to come: {', '.join(coming[:5])}. Send the rest, or delete what is not needed.")
    if not any(upload.state == Upload.State.COMPLETE for upload in uploads):
        raise Refused(409, "There is no file yet. Upload at least one .gguf or .safetensors file.")
