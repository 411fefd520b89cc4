"""Verified files become a version of a team's weights: each content once on the disk, rows in one transaction."""

from collections.abc import Mapping
from datetime import UTC, datetime

from django.conf import settings
from django.db import transaction
from django.db.models import Q, Sum
from django.utils import timezone

from accounts import audit, quotas
from accounts.models import Quota, Team
from catalog import facts, keeping, offers, versions
from catalog import store as disk
from catalog.lifecycle import Reason, Status
from catalog.models import Blob, Licence, Model, Weights
from catalog.uploads import spool
from catalog.uploads.contents import Contents
from catalog.uploads.models import Draft, Upload


def store(draft: Draft, contents: Contents, digests: Mapping[str, str], *, base: Weights | None) -> Weights:
    """The weights entry with all its files, deployable from now on. Safe to run again after a kill at any point."""
    uploads = list(draft.uploads.filter(state=Upload.State.COMPLETE))
    folder = disk.set_folder(draft.pk)
    folder.mkdir(parents=True, exist_ok=True)
    for upload in uploads:
        disk.place(spool.path(upload.pk), digests[upload.filename], folder / upload.filename)
        keeping.keep(digests[upload.filename])
    disk.sync(folder)
    path = folder / contents.first if contents.first else folder
    size = sum(upload.length for upload in uploads)
    with transaction.atomic():
        Team.objects.select_for_update(no_key=True).get(pk=draft.team_id)
        weights = _rows(draft, contents, base=base, path=str(path), sha256=disk.digest_of(digests), size=size)
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
    """What the team's own weights take, counting what is still to come; of failed ones, what has come."""
    kept = Weights.objects.of(team).kept()
    whole, part = Sum("size_bytes", filter=~Q(status=Status.FAILED)), Sum("bytes_done", filter=Q(status=Status.FAILED))
    sums = kept.aggregate(whole=whole, part=part)
    return int(sums["whole"] or 0) + int(sums["part"] or 0)


def most_bytes(team: Team) -> int | None:
    """What the team may keep in weights and uploads together: its own quota, else every team's; None: no limit."""
    found = quotas.most(team, Quota.What.STORAGE)
    return found if found is not None else settings.WEIGHTS_TEAM_QUOTA or None


def used(team: Team) -> quotas.Uses:
    """For the team's page."""
    return {(Quota.What.STORAGE, ""): Upload.objects.of(team).held_bytes() + stored_bytes(team)}


def _rows(draft: Draft, contents: Contents, *, base: Weights | None, path: str, sha256: str, size: int) -> Weights:
    licence = draft.licence or (draft.base.licence if draft.base else None)
    context = context_tokens(contents)
    model, _ = Model.objects.update_or_create(
        slug=slug_of(draft.team, draft.name),
        team=draft.team,
        defaults={
            "name": draft.name, "publisher": draft.team.name, "licence": licence or not_stated(),
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
    offers.offer_newest(model)
    return weights


def licence_warning(base: Model | None, chosen: Licence | None) -> str:
    """Where the chosen licence says more than the base's allows; empty where all is well or nothing is known."""
    return licence_conflict(base.name, base.licence, chosen) if base else ""


def licence_conflict(base_name: str, its: Licence, chosen: Licence | None) -> str:
    """The same, of a base that is known by its name and licence alone."""
    if chosen is None or chosen == its or its.commercial_use is True:
        return ""
    if its.commercial_use is False and chosen.commercial_use is not False:
        return (
            f"{base_name} is under {its}, which does not allow commercial use. What was tuned from it stays"
            f" under those terms, whatever {chosen} says."
        )
    return f"{base_name} is under {its}, whose conditions go on to hold beside {chosen}. {its.note}"


def slug_of(team: Team, name: str) -> str:
    """Slugs are the portal's; a team's own begin with the team's."""
    return f"{team.slug}.{name}"


def context_tokens(contents: Contents) -> int | None:
    architecture = contents.metadata.get("general.architecture")
    said = contents.metadata.get(f"{architecture}.context_length", contents.metadata.get("max_position_embeddings"))
    return said if isinstance(said, int) and 0 < said < 2**31 else None


def not_stated() -> Licence:
    note = "Nobody has said under which terms it may be used."
    row, _ = Licence.objects.get_or_create(slug="not-stated", defaults={"name": "Not stated", "note": note})
    return row
