"""What the gateway keeps: names that teams give to targets, limits, stored answers, and the log of requests."""

import uuid

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q

from accounts.models import ApiKey, Team


class Alias(models.Model):
    """A team's own name (`team/chat-main`) for one or more targets, which can change behind it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="aliases")
    name = models.CharField(max_length=60, validators=[RegexValidator(r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")])
    hold_s = models.PositiveIntegerField(
        null=True, blank=True, validators=[MaxValueValidator(600)],
        help_text="How long a call waits for a target that wakes; empty: as long as the portal's default.",
    )  # fmt: skip
    spills = models.BooleanField(
        default=False, help_text="A call that would wait longer goes to the next target instead of failing."
    )
    spill_cap_usd = models.DecimalField(
        max_digits=12, decimal_places=4, null=True, blank=True,
        help_text="Spill only to a target whose dearest price per million tokens is at most this.",
    )  # fmt: skip
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "aliases"
        constraints = [models.UniqueConstraint(fields=["team", "name"], name="one_alias_per_name")]

    def __str__(self) -> str:
        return f"{self.team.slug}/{self.name}"


class AliasTarget(models.Model):
    """One target. Those with the same `position` share the traffic by weight; higher positions are fallbacks.
    A shadow gets a copy of `shadow_percent` of the calls; its answers go nowhere, its cost is billed."""

    alias = models.ForeignKey(Alias, on_delete=models.CASCADE, related_name="targets")
    model = models.CharField(max_length=160, help_text="As callers name it: claude-opus-4.7, team/deployment.")
    position = models.PositiveSmallIntegerField(default=0)
    weight = models.PositiveIntegerField(default=1, validators=[MaxValueValidator(1_000_000)])
    shadow_percent = models.PositiveSmallIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(100)]
    )

    class Meta:
        ordering = ["position", "pk"]

    def __str__(self) -> str:
        return f"{self.alias} -> {self.model}"


class Limits(models.Model):
    """What a team, or one of its keys, may do at a time. Empty: no limit of this kind."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="limits")
    api_key = models.OneToOneField(ApiKey, null=True, blank=True, on_delete=models.CASCADE, related_name="limits")
    requests_per_minute = models.PositiveIntegerField(null=True, blank=True, validators=[MinValueValidator(1)])
    tokens_per_minute = models.PositiveIntegerField(null=True, blank=True, validators=[MinValueValidator(1)])
    concurrency = models.PositiveIntegerField(null=True, blank=True, validators=[MinValueValidator(1)])

    class Meta:
        verbose_name_plural = "limits"
        constraints = [
            models.UniqueConstraint(fields=["team"], condition=Q(api_key=None), name="one_limits_per_team"),
        ]

    def __str__(self) -> str:
        return f"limits of {self.api_key or self.team}"


class StoredAnswer(models.Model):
    """The answer to a call with an Idempotency-Key: kept for a day, sealed, replayed to the same call."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="+")
    key_digest = models.CharField(max_length=64)
    body_digest = models.CharField(max_length=64)
    owner = models.UUIDField(help_text="Who answers it now.")
    lease_until = models.DateTimeField(help_text="After this a call without an answer may be taken over.")
    status = models.PositiveSmallIntegerField(null=True, help_text="Empty: still in flight.")
    headers = models.JSONField(default=dict)
    sealed_body = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["team", "key_digest"], name="one_answer_per_key")]

    def __str__(self) -> str:
        return f"{self.key_digest[:8]} {self.status or 'in flight'}"


class RequestRecord(models.Model):
    """One request as the team sees it in its log: no prompt, no answer. Kept for REQUEST_LOG_DAYS.

    `content_id` names the RequestContent of a team that turned prompt logging on; that may be gone before this row."""

    id = models.BigAutoField(primary_key=True)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="+", db_index=False)
    at = models.DateTimeField()
    request_id = models.CharField(max_length=128)
    api_key_name = models.CharField(max_length=100)
    surface = models.CharField(max_length=24, help_text="chat, messages, responses, embeddings ...")
    asked = models.CharField(max_length=200, help_text="The model's name as it was asked for.")
    model = models.CharField(max_length=200, blank=True, help_text="What answered.")
    target = models.CharField(max_length=200, blank=True)
    path = models.CharField(max_length=10, blank=True)
    status = models.PositiveSmallIntegerField()
    code = models.CharField(max_length=60, blank=True)
    streamed = models.BooleanField(default=False)
    attempts = models.PositiveSmallIntegerField(default=0)
    tokens_in = models.PositiveBigIntegerField(default=0)
    tokens_out = models.PositiveBigIntegerField(default=0)
    cost = models.DecimalField(max_digits=38, decimal_places=18, null=True)
    first_byte_ms = models.PositiveIntegerField(null=True)
    total_ms = models.PositiveIntegerField()
    content_id = models.UUIDField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["team", "-at"], name="requests_by_team")]

    def __str__(self) -> str:
        return f"{self.request_id} {self.asked} {self.status}"


class PromptLogging(models.Model):
    """A team with a row has its prompts and answers kept for `days`; without one nothing of them is kept."""

    team = models.OneToOneField(Team, on_delete=models.CASCADE, primary_key=True, related_name="prompt_logging")
    days = models.PositiveSmallIntegerField(default=7, validators=[MinValueValidator(1), MaxValueValidator(90)])
    set_by = models.CharField(max_length=254)
    set_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name_plural = "prompt logging"

    def __str__(self) -> str:
        return f"{self.team} for {self.days} days"


class RequestContent(models.Model):
    """What was asked and answered, as JSON or as the stream's events: encrypted at rest."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="+")
    at = models.DateTimeField(auto_now_add=True, db_index=True)
    sealed_prompt = models.TextField()
    sealed_answer = models.TextField()
    is_cut = models.BooleanField(default=False, help_text="Longer than what is kept of one call.")

    def __str__(self) -> str:
        return str(self.pk)
