"""Verified files become a version of a team's weights: each content once on the disk, rows in one transaction."""

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.db.models import Sum
from django.utils import timezone

from accounts import audit
from accounts.models import Team
from catalog import facts, offers, versions
from catalog.lifecycle import Reason, Status
from catalog.models import Blob, Licence, Model, Weights
from catalog.uploads import spool
from catalog.uploads.contents import Contents
from catalog.uploads.models import Draft, Upload


def store(draft: Draft, contents: Contents, digests: Mapping[str, str], *, base: Weights | None) -> Weights:
    """The weights entry with all its files, deployable from now on. Safe to run again after a kill at any point."""
    uploads = list(draft.uploads.filter(state=Upload.State.COMPLETE))
    folder = Path(settings.WEIGHTS_DIR) / "sets" / str(draft.pk)
    folder.mkdir(parents=True, exist_ok=True)
    for upload in uploads:
        _place(spool.path(upload.pk), digests[upload.filename], folder / upload.filename)
    _sync(folder)
    path = folder / contents.first if contents.first else folder
    size = sum(upload.length for upload in uploads)
    with transaction.atomic():
        Team.objects.select_for_update(no_key=True).get(pk=draft.team_id)
        weights = _rows(draft, contents, base=base, path=str(path), sha256=_digest_of(digests), size=size)
        for upload in uploads:
            sha256 = digests[upload.filename]
            blob, _ = Blob.objects.get_or_create(sha256=sha256, defaults={"size_bytes": upload.length})
            weights.files.create(name=upload.filename, size_bytes=upload.length, sha256=sha256, blob=blob)
        draft.uploads.filter(pk__in=[upload.pk for upload in uploads]).update(state=Upload.State.STORED)
        Draft.objects.filter(pk=draft.pk).update(
            status=Draft.Status.READY, weights=weights, lease_until=None, touched_at=timezone.now()
        )
        audit.record(draft.team, actor=draft.created_by, verb="uploaded", subject=f"{draft.name} {weights.revision}")
    for upload in uploads:
        spool.remove(upload.pk)
    return weights


def is_deployable(weights: Weights) -> bool:
    """Whether Deploy starts just these: an engine takes them, and there is no newer version yet."""
    return weights.offers.exists()


def stored_bytes(team: Team) -> int:
    """What the team's own weights take."""
    return int(Weights.objects.of(team).kept().aggregate(total=Sum("size_bytes"))["total"] or 0)


def _rows(draft: Draft, contents: Contents, *, base: Weights | None, path: str, sha256: str, size: int) -> Weights:
    licence = draft.licence or (draft.base.licence if draft.base else None)
    context = context_tokens(contents)
    model, _ = Model.objects.update_or_create(
        slug=slug_of(draft.team, draft.name),
        team=draft.team,
        defaults={
            "name": draft.name, "publisher": draft.team.name, "licence": licence or _not_stated(),
            "openness": Model.Openness.OWN_WEIGHTS, "modalities": ["text"], "description": draft.notes,
            "context_tokens": context, "source": "uploaded", "source_date": datetime.now(UTC).date(),
        },
    )  # fmt: skip
    number = versions.next_number(model)
    now = timezone.now()
    weights = Weights.objects.create(
        id=draft.pk, team=draft.team, model=model, version=number, revision=f"v{number}",
        kind=Weights.Kind.ADAPTER if contents.is_adapter else Weights.Kind.FULL,
        source_kind=Weights.SourceKind.UPLOAD, source=f"uploaded by {draft.created_by}"[:200],
        format=contents.format, path=path, sha256=sha256, size_bytes=size, bytes_done=size, progress_at=now,
        base=base, base_name=draft.base.name if draft.base else "", licence=licence, notes=draft.notes,
        licence_warning=licence_warning(draft.base, draft.licence)[:300],
        facts=facts.of(contents.format, contents.tensors, contents.metadata),
        status=Status.READY, reason=Reason.VERIFIED, created_by=draft.created_by,
    )  # fmt: skip
    offers.offer(weights)
    return weights


def licence_warning(base: Model | None, chosen: Licence | None) -> str:
    """Where the chosen licence says more than the base's allows; empty where all is well or nothing is known."""
    if base is None or chosen is None or chosen == base.licence or base.licence.commercial_use is True:
        return ""
    if base.licence.commercial_use is False and chosen.commercial_use is not False:
        return (
            f"{base.name} is under {base.licence}, which does not allow commercial use. What was tuned from it stays"
            f" under those terms, whatever {chosen} says."
        )
    return f"{base.name} is under {base.licence}, whose conditions go on to hold beside {chosen}. {base.licence.note}"


def slug_of(team: Team, name: str) -> str:
    """Slugs are the portal's; a team's own begin with the team's."""
    return f"{team.slug}.{name}"


def context_tokens(contents: Contents) -> int | None:
    architecture = contents.metadata.get("general.architecture")
    said = contents.metadata.get(f"{architecture}.context_length", contents.metadata.get("max_position_embeddings"))
    return said if isinstance(said, int) and 0 < said < 2**31 else None


def _not_stated() -> Licence:
    note = "Whoever uploaded it has not said under which terms it may be used."
    row, _ = Licence.objects.get_or_create(slug="not-stated", defaults={"name": "Not stated", "note": note})
    return row


def _place(source: Path, sha256: str, target: Path) -> None:
    """The content under its digest, and under its name in the set: one file on the disk, however many names."""
    blob = Path(settings.WEIGHTS_DIR) / "blobs" / sha256
    blob.parent.mkdir(parents=True, exist_ok=True)
    if not blob.exists():
        _link(source, blob)
        _sync(blob.parent)
    target.unlink(missing_ok=True)
    _link(blob, target)


def _link(source: Path, target: Path) -> None:
    """Another name for the file; a copy where the disk is another one."""
    with contextlib.suppress(FileExistsError):
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP}:
                raise
            part = target.with_name(f"{target.name}.part")
            shutil.copyfile(source, part)
            _sync(part)
            part.rename(target)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest_of(digests: Mapping[str, str]) -> str:
    """A single file's own; of several, that of the list `digest  name`, sorted by name, as sha256sum prints it."""
    if len(digests) == 1:
        return next(iter(digests.values()))
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()
