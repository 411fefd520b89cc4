"""An import on its way: its bytes come from the Hub, each file is read from end to end and held against what the Hub
promised, and the weights are ready; or they have failed, with the reason. A kill at any point loses no byte that came.
"""

import contextlib
import hashlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, DataError, InterfaceError, transaction
from django.db.models import Q
from django.utils import timezone

from accounts import audit
from catalog import bases, claims, facts, hub_tokens, incoming, keeping, offers, store
from catalog.errors import BadWeights, BucketAway, HubError, IllegalMove, Refused, Stalled
from catalog.huggingface import Hub, RepoFile
from catalog.lifecycle import WORKED_ON, Reason, Status
from catalog.models import Blob, Weights, WeightsFile
from catalog.uploads import contents, storing, verifying
from catalog.uploads.contents import Contents, File

log = logging.getLogger(__name__)

BLOCK_BYTES = 8 * 1024 * 1024
TELL_EVERY_S = 0.5
QUIET_FOR_S = 30.0
LONGEST_PAUSE_S = 15.0
# The weight of the newest measurement in the rate that is shown.
NEWEST = 0.3
UNATTENDED = timedelta(seconds=5)
GIVEN_UP_AFTER = timedelta(hours=1)
KEPT_PARTS = timedelta(days=1)
ORPHANED = timedelta(hours=1)


# Set when this process is asked to end: downloads stop where they are, and another worker's sweep goes on with them.
ending = threading.Event()

# Uploads are verified by catalog.uploads; all other weights that are on their way are brought here.
OURS = Q(source_kind=Weights.SourceKind.HUB) | ~Q(path="")


def call_back(weights: Weights) -> None:
    """They are ready but not on this disk: they come back from the bucket. Raises IllegalMove if somebody was first."""
    weights.move(Status.DOWNLOADING, since=Status.READY, reason=Reason.BUCKET)
    _set(weights, bytes_done=0, progress_at=timezone.now() - UNATTENDED)


class _Gone(Exception):
    """Somebody removed the weights or took them over, or the process is to end: whoever works on them stops."""


def fetch(weights_id: UUID) -> None:
    """As far as it goes: to ready or failed. Safe to run twice and by many at once; one of them works."""
    with claims.alone(weights_id) as mine:
        if not mine:
            return
        weights = Weights.objects.select_related("team", "model", "base").filter(pk=weights_id).first()
        if weights is None or weights.status not in WORKED_ON or not (weights.is_import or weights.was_ready):
            return
        with claims.slot() as free:
            if not free:
                _set(weights, progress_at=timezone.now(), detail="Waits for its turn: other imports are under way.")
                return
            _work(weights)


def waiting() -> list[UUID]:
    """Imports that somebody should work on, and perhaps nobody does: a message was lost, or a worker was."""
    stale = timezone.now() - UNATTENDED
    rows = Weights.objects.filter(OURS, status__in=WORKED_ON, progress_at__lt=stale)
    return list(rows.order_by("created_at").values_list("pk", flat=True))


def give_up_overdue() -> None:
    """Whoever killed its worker again and again, and came no further in an hour, has failed."""
    long_ago = timezone.now() - GIVEN_UP_AFTER
    rows = Weights.objects.filter(OURS, status__in=WORKED_ON, progress_at__lt=long_ago)
    for weights in rows:
        with claims.alone(weights.pk) as mine:
            if mine:
                _fail(weights, Reason.STALLED, "No worker brought it further within an hour.")


def forget_old() -> None:
    """What had come of imports that failed a day ago and that nobody tried again."""
    old = timezone.now() - KEPT_PARTS
    for weights in Weights.objects.filter(status=Status.FAILED, bytes_done__gt=0, status_since__lt=old):
        if weights.is_import:
            store.drop_incoming(weights.pk)
            Weights.objects.filter(pk=weights.pk, status=Status.FAILED).update(bytes_done=0)
    keeping.forget(store.forget_unused())
    store.forget_strangers(older_than=timezone.now() - ORPHANED)


def _work(weights: Weights) -> None:
    try:
        if weights.was_ready:
            _bring_back(weights)
            return
        if weights.status == Status.DOWNLOADING:
            _download(weights)
            weights.move(Status.VERIFYING, since=Status.DOWNLOADING, reason=Reason.COMPLETE)
            _set(weights, bytes_done=0, progress_at=timezone.now())
        _finish(weights)
    except (_Gone, incoming.WrittenByAnother, IllegalMove):
        if not Weights.objects.kept().filter(pk=weights.pk).exists():
            store.drop(weights.pk)
    except BadWeights as error:
        store.drop_incoming(weights.pk)
        _fail(weights, Reason.REFUSED, str(error))
    except (Refused, _WrongBytes, HubError, BucketAway) as error:
        _fail(weights, _reason_of(error), str(error))
    except DataError:
        log.exception("the import %s has what the database does not take", weights.pk)
        _fail(weights, Reason.PORTAL_FAILED, "The operator finds more in the portal's log.")
    except (DatabaseError, InterfaceError):
        raise  # nothing can be said while the database is away; the sweep goes on
    except OSError as error:
        full = error.errno in store.NO_ROOM
        store.drop_incoming(weights.pk)
        if not full:
            log.exception("the import %s could not be stored", weights.pk)
        text = "The operator has to make room; then try again." if full else f"{error.strerror}. Tell the operator."
        _fail(weights, Reason.DISK_FULL if full else Reason.PORTAL_FAILED, text)
    except Exception:
        log.exception("the import %s broke", weights.pk)
        _fail(
            weights,
            Reason.PORTAL_FAILED,
            "The operator finds more in the portal's log.",
        )


def _reason_of(error: Exception) -> Reason:
    match error:
        case Refused():
            return Reason.HUB_REFUSED
        case _WrongBytes():
            return Reason.WRONG_BYTES
        case BucketAway():
            return Reason.BUCKET_AWAY
        case Stalled():
            return Reason.STALLED
        case _:
            return Reason.HUB_AWAY


def _fail(weights: Weights, reason: Reason, detail: str) -> None:
    """Failed, unless somebody removed it meanwhile; what is still on the disk is counted."""
    weights.refresh_from_db()
    with contextlib.suppress(IllegalMove), transaction.atomic():
        weights.move(Status.FAILED, since=weights.status, reason=reason, detail=detail)
        _set(weights, bytes_done=_bytes_here(weights))
        offers.offer_newest(weights.model)
        log.info("the import %s failed: %s", weights.pk, reason)


def _bring_back(weights: Weights) -> None:
    """From the bucket, file by file; ready again once all of them are the ones that were verified."""
    progress = _Progress(weights, done=0)
    keeping.bring_back(weights, progress.more)
    if weights.status == Status.DOWNLOADING:
        weights.move(Status.VERIFYING, since=Status.DOWNLOADING, reason=Reason.COMPLETE)
    weights.move(Status.READY, since=Status.VERIFYING, reason=Reason.VERIFIED)
    offers.offer_newest(weights.model)


class _WrongBytes(Exception):
    """A file is not the one that was promised; the text says which, and how."""


def _download(weights: Weights) -> None:
    assert weights.team is not None  # noqa: S101 - an import is a team's
    store.incoming_folder(weights.pk).mkdir(parents=True, exist_ok=True)
    progress = _Progress(weights, done=_bytes_here(weights))
    progress.tell()
    hub = Hub(hub_tokens.of(weights.team))
    for file in weights.files.all():
        if not _is_here(file):
            _bring(hub, weights, file, progress)


def _bring(hub: Hub, weights: Weights, file: WeightsFile, progress: "_Progress") -> None:
    """All its bytes on the disk. A line that breaks is taken up again where it broke, until nothing more comes for
    IMPORT_STALLED_S: then Stalled, or the HubError itself if no byte came at all."""
    wanted = RepoFile(file.source_name, file.size_bytes)
    tries, moved_at, reached = 0, time.monotonic(), -1
    with incoming.opened(weights, file) as part:
        while part.size() < file.size_bytes:
            try:
                with hub.opened(
                    weights.repo,
                    weights.commit,
                    wanted,
                    offset=part.size(),
                    timeout_s=min(QUIET_FOR_S, settings.IMPORT_STALLED_S),
                ) as (
                    begins,
                    blocks,
                ):
                    progress.back(part.size() - begins)
                    part.cut(begins)
                    for block in blocks:
                        part.write(block)
                        progress.more(len(block))
                        if part.size() > file.size_bytes:
                            raise _too_long(part, file, progress)
                if part.size() < file.size_bytes:
                    raise HubError("The Hub ended the file before its end.")
            except HubError as error:
                if part.size() > reached:
                    tries, moved_at, reached = 0, time.monotonic(), part.size()
                if time.monotonic() - moved_at > settings.IMPORT_STALLED_S:
                    raise Stalled(f"{error} It was tried for {settings.IMPORT_STALLED_S} s.") from error
                tries += 1
                progress.say(f"{error} It is asked again, where it broke off.")
                _pause(min(0.25 * 2**tries, LONGEST_PAUSE_S), progress)
        part.sync()


def _too_long(part: incoming.Part, file: WeightsFile, progress: "_Progress") -> _WrongBytes:
    progress.back(part.size())
    part.cut(0)
    return _WrongBytes(f"{file.name}: the Hub sends more than the {file.size_bytes:,} bytes that it promised.")


def _pause(seconds: float, progress: "_Progress") -> None:
    """Whoever removes the weights meanwhile is not kept waiting."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 1.0))
        progress.check()


@dataclass
class _Progress:
    """How far it is, told to the row about twice a second. Raises _Gone once nobody wants the weights any more."""

    weights: Weights
    done: int
    rate: float = 0.0
    told_at: float = field(default_factory=time.monotonic)
    told: int = 0

    def __post_init__(self) -> None:
        self.told = self.done

    def more(self, count: int) -> None:
        self.done += count
        if time.monotonic() - self.told_at >= TELL_EVERY_S:
            self.tell()

    def back(self, count: int) -> None:
        """What had come has to come again."""
        self.done -= count
        self.told = min(self.told, self.done)

    def tell(self) -> None:
        now = time.monotonic()
        seconds, count = now - self.told_at, self.done - self.told
        if seconds >= TELL_EVERY_S / 2:
            newest = count / seconds
            self.rate = newest if not self.rate else self.rate + NEWEST * (newest - self.rate)
        self.told_at, self.told = now, self.done
        self._set(bytes_done=self.done, bytes_per_s=int(self.rate), progress_at=timezone.now(), detail="")

    def say(self, text: str) -> None:
        self.rate = 0.0
        self._set(bytes_done=self.done, bytes_per_s=0, detail=text)

    def check(self) -> None:
        self._set(bytes_per_s=0)

    def _set(self, **fields: object) -> None:
        if ending.is_set():
            raise _Gone
        if not Weights.objects.filter(pk=self.weights.pk, status__in=WORKED_ON).update(**fields):
            raise _Gone


def _is_here(file: WeightsFile) -> bool:
    """Its content is on the disk already, whoever brought it; it was read from end to end then."""
    return bool(file.sha256) and _stored(file.sha256, file.size_bytes)


def _stored(sha256: str, size_bytes: int) -> bool:
    path = store.blob_path(sha256)
    known = Blob.objects.filter(pk=sha256, size_bytes=size_bytes).exists()
    return known and path.exists() and path.stat().st_size == size_bytes


def _bytes_here(weights: Weights) -> int:
    here = 0
    for file in weights.files.all():
        path = incoming.path_of(weights, file)
        if _is_here(file):
            here += file.size_bytes
        elif path.exists():
            here += path.stat().st_size
    return here


def _finish(weights: Weights) -> None:
    """Every file is read and is what was promised; together they are weights; from now on they can be deployed."""
    progress = _Progress(weights, done=0)
    files: dict[str, File] = {}
    digests: dict[str, str] = {}
    places: dict[str, Path] = {}
    wrong: list[str] = []
    for row in weights.files.all():
        is_known = _is_here(row)
        places[row.name] = path = store.blob_path(row.sha256) if is_known else incoming.path_of(weights, row)
        if not path.exists() and not is_known:
            raise _WrongBytes(f"{row.name}: what had come of it is gone. Try again.")
        if is_known:
            digests[row.name] = row.sha256
            progress.more(row.size_bytes)
        else:
            digests[row.name], problem = _read(row, path, progress.more)
            if problem:
                path.unlink()
                wrong.append(f"{row.name}: {problem}.")
                continue
        files[row.name] = _checked(row.name, path)
    if wrong:
        raise _WrongBytes(" ".join(wrong) + " What is wrong was removed; try again to have it sent anew.")
    whole = contents.check_set(files)
    base = _base(weights, whole)
    _store(weights, whole, digests, places, base=base)


def _checked(name: str, path: Path) -> File:
    try:
        return contents.check_file(name, path)
    except BadWeights as error:
        raise BadWeights(f"{name}: {error}.") from error


def _base(weights: Weights, whole: Contents) -> Weights | None:
    if not whole.is_adapter:
        return weights.base
    assert weights.team is not None  # noqa: S101 - an import is a team's
    base = weights.base or bases.find(weights.team, [weights.base_name], format=whole.format)
    if base is None:
        named = weights.base_name or "what it was tuned from"
        raise BadWeights(
            f"This is a LoRA adapter of {named}, whose weights are not here in {whole.format}. Import those."
        )
    contents.check_fits(whole, verifying.header_of(base))
    return base


def _read(row: WeightsFile, path: Path, tell: Callable[[int], None]) -> tuple[str, str]:
    """The sha256 of what really lies on the disk, and what is wrong with it; empty if nothing is."""
    size = path.stat().st_size
    if size != row.size_bytes:
        return "", f"it has {size:,} bytes, and the Hub promised {row.size_bytes:,}"
    sha256, git = hashlib.sha256(), hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            sha256.update(block)
            if not row.sha256:
                git.update(block)
            tell(len(block))
    if row.sha256 and sha256.hexdigest() != row.sha256:
        return "", f"its sha256 is {sha256.hexdigest()}, and the Hub promised {row.sha256}"
    if not row.sha256 and row.git_sha1 and git.hexdigest() != row.git_sha1:
        return "", f"Git's hash of it is {git.hexdigest()}, and the Hub promised {row.git_sha1}"
    return sha256.hexdigest(), ""


def _store(
    weights: Weights, whole: Contents, digests: dict[str, str], places: dict[str, Path], *, base: Weights | None
) -> None:
    folder = store.set_folder(weights.pk)
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in places.items():
        store.place(path, digests[name], folder / name)
        keeping.keep(digests[name])
    store.sync(folder)
    path = folder / whole.first if whole.first else folder
    context = storing.context_tokens(whole)
    with transaction.atomic():
        for row in weights.files.all():
            blob, _ = Blob.objects.get_or_create(sha256=digests[row.name], defaults={"size_bytes": row.size_bytes})
            WeightsFile.objects.filter(pk=row.pk).update(sha256=digests[row.name], blob=blob)
        known = weights.facts | facts.of(whole.format, whole.tensors, whole.metadata)
        known["context_tokens"] = known.get("context_tokens") or context
        _set(
            weights, path=str(path), sha256=store.digest_of(digests), facts=known, bytes_done=weights.size_bytes,
            kind=Weights.Kind.ADAPTER if whole.is_adapter else Weights.Kind.FULL, base=base,
        )  # fmt: skip
        weights.move(Status.READY, since=Status.VERIFYING, reason=Reason.VERIFIED)
        if weights.model.context_tokens is None and context:
            type(weights.model).objects.filter(pk=weights.model_id).update(context_tokens=context)
        offers.offer_newest(weights.model)
        audit.record(weights.team, actor=weights.created_by, verb="imported", subject=str(weights))
    store.drop_incoming(weights.pk)


def _set(weights: Weights, **fields: object) -> None:
    Weights.objects.filter(pk=weights.pk).update(**fields)
    for name, value in fields.items():
        setattr(weights, name, value)
