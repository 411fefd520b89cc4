"""Uploads under way: a draft gathers the files of one weights entry, an upload is one file of it."""

import uuid
from datetime import datetime
from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from accounts.models import Team


class DraftQuerySet(models.QuerySet["Draft"]):
    def of(self, team: Team) -> "DraftQuerySet":
        return self.filter(team=team)

    def unfinished(self) -> "DraftQuerySet":
        return self.filter(status__in=[Draft.Status.OPEN, Draft.Status.VERIFYING, Draft.Status.REFUSED])


class Draft(models.Model):
    """Files that become one version of a team's weights once all of them are here and verified."""

    class Status(models.TextChoices):
        OPEN = "open", "Taking files"
        VERIFYING = "verifying", "Verifying"
        REFUSED = "refused", "Refused"
        READY = "ready", "Ready"
        GONE = "gone", "Given up"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="drafts")
    name = models.CharField(max_length=80)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.OPEN)
    reason = models.TextField(blank=True, help_text="Why it was refused, and what to do.")
    base = models.ForeignKey("catalog.Model", null=True, blank=True, on_delete=models.PROTECT, related_name="drafts")
    licence = models.ForeignKey(
        "catalog.Licence", null=True, blank=True, on_delete=models.PROTECT, related_name="drafts"
    )
    notes = models.TextField(blank=True)
    weights = models.ForeignKey(
        "catalog.Weights", null=True, blank=True, on_delete=models.SET_NULL, related_name="drafts"
    )
    created_by = models.CharField(max_length=254)
    created_at = models.DateTimeField(auto_now_add=True)
    touched_at = models.DateTimeField(default=timezone.now)
    checked_bytes = models.BigIntegerField(default=0, help_text="How far the verification has come.")
    lease_until = models.DateTimeField(null=True, blank=True, help_text="Until then one worker verifies it.")

    objects: ClassVar[DraftQuerySet] = DraftQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["team", "name"],
                condition=Q(status__in=["open", "verifying", "refused"]),
                name="one_unfinished_draft_per_name",
            )
        ]

    def __str__(self) -> str:
        return f"{self.team} {self.name} ({self.status})"


class UploadQuerySet(models.QuerySet["Upload"]):
    def of(self, team: Team) -> "UploadQuerySet":
        return self.filter(draft__team=team)

    def kept(self) -> "UploadQuerySet":
        """Those whose bytes lie on the disk."""
        return self.filter(state__in=[Upload.State.RECEIVING, Upload.State.COMPLETE])

    def held_bytes(self) -> int:
        """What they take, counting what is still to come."""
        return int(self.kept().aggregate(total=models.Sum("length"))["total"] or 0)


class Upload(models.Model):
    """One file. `offset` is what lies on the disk for certain: it is raised after the fsync, never before."""

    class State(models.TextChoices):
        RECEIVING = "receiving"
        COMPLETE = "complete"
        STORED = "stored", "Part of the weights"
        REFUSED = "refused"
        GONE = "gone"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    draft = models.ForeignKey(Draft, on_delete=models.CASCADE, related_name="uploads")
    filename = models.CharField(max_length=255)
    length = models.BigIntegerField()
    offset = models.BigIntegerField(default=0)
    sha256 = models.CharField(max_length=64, blank=True, help_text="Of the whole file, as its owner says.")
    state = models.CharField(max_length=10, choices=State.choices, default=State.RECEIVING)
    reason = models.TextField(blank=True, help_text="Why it was refused or is gone.")
    metadata = models.TextField(blank=True, help_text="Upload-Metadata as it came.")
    created_at = models.DateTimeField(auto_now_add=True)
    touched_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()

    objects: ClassVar[UploadQuerySet] = UploadQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ["created_at", "filename"]
        constraints = [
            models.CheckConstraint(
                condition=Q(offset__gte=0, offset__lte=F("length")), name="an_offset_stays_in_the_file"
            ),
            models.UniqueConstraint(
                fields=["draft", "filename"],
                condition=Q(state__in=["receiving", "complete"]),
                name="one_upload_per_file_of_a_draft",
            ),
        ]
        indexes = [models.Index(fields=["state", "expires_at"])]

    def __str__(self) -> str:
        return f"{self.filename} {self.offset}/{self.length}"

    @property
    def is_whole(self) -> bool:
        return self.offset == self.length

    def has_expired(self, now: datetime) -> bool:
        return self.state == self.State.RECEIVING and self.expires_at <= now
