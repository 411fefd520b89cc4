"""The life of a set of weights as data. Who may follow whom is MOVES; why is a reason, never a state of its own."""

from types import MappingProxyType

from django.db import models


class Status(models.TextChoices):
    CHECKING = "checking"
    UPLOADING = "uploading"
    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    READY = "ready"
    FAILED = "failed"
    REMOVED = "removed"


MOVES = MappingProxyType(
    {
        Status.CHECKING: {Status.UPLOADING, Status.DOWNLOADING, Status.VERIFYING, Status.FAILED, Status.REMOVED},
        Status.UPLOADING: {Status.VERIFYING, Status.FAILED, Status.REMOVED},
        Status.DOWNLOADING: {Status.VERIFYING, Status.FAILED, Status.REMOVED},
        Status.VERIFYING: {Status.READY, Status.FAILED, Status.REMOVED},
        Status.READY: {Status.DOWNLOADING, Status.REMOVED},  # back from the bucket
        Status.FAILED: {Status.UPLOADING, Status.DOWNLOADING, Status.VERIFYING, Status.REMOVED},
        Status.REMOVED: set(),
    }
)
# Something is still to come: a page that shows one of these asks again.
IN_MOTION = frozenset({Status.CHECKING, Status.UPLOADING, Status.DOWNLOADING, Status.VERIFYING})
# What a worker does with no person's help.
WORKED_ON = frozenset({Status.DOWNLOADING, Status.VERIFYING})


class Reason(models.TextChoices):
    """Why weights are in their state. The text shown to people is in the label."""

    NONE = "", ""
    ASKED = "asked", "Asked for"
    RETRIED = "retried", "Tried again"
    COMPLETE = "complete", "All bytes are here and are being checked"
    VERIFIED = "verified", "Every file is the one that was pinned"
    REMOVE_ASKED = "remove_asked", "Removal was asked for"
    REFUSED = "refused", "The files can't be used"
    WRONG_BYTES = "wrong_bytes", "The bytes are not those that were promised"
    DISK_FULL = "disk_full", "The portal's disk is full"
    HUB_REFUSED = "hub_refused", "The Hub refused"
    HUB_AWAY = "hub_away", "The Hub could not be reached"
    BUCKET = "bucket", "They come back from the bucket that keeps them"
    BUCKET_AWAY = "bucket_away", "The bucket that keeps them can't be used"
    STALLED = "stalled", "Nothing arrived before the deadline"
    PORTAL_FAILED = "portal_failed", "Something went wrong in the portal"
    OVER_QUOTA = "over_quota", "The team's storage is used up"
