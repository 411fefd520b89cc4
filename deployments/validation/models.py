"""Does what runs answer as it should, and how fast? Prompt sets, what became of them, and when they are asked again."""

import uuid
from datetime import timedelta
from types import MappingProxyType
from typing import ClassVar

from django.db import models
from django.utils import timezone

from accounts.models import Team
from deployments.validation.checks import Verdict


class PromptSetQuerySet(models.QuerySet["PromptSet"]):
    def of(self, team: Team) -> "PromptSetQuerySet":
        """The team's own that are in use."""
        return self.filter(team=team, removed_at=None)


class PromptSet(models.Model):
    """A team's prompts, each with what its answer has to be. An edit makes another edition: reports keep theirs."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="prompt_sets")
    name = models.CharField(max_length=80)
    note = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    removed_at = models.DateTimeField(null=True, blank=True, help_text="Reports still read its editions.")

    objects = PromptSetQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                fields=["team", "name"], condition=models.Q(removed_at=None), name="one_prompt_set_per_name"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def edition(self) -> "Edition":
        """The newest; a set is never without one."""
        return self.editions.all()[0]


class Edition(models.Model):
    """The cases of a prompt set as they stood after an edit. Never changed."""

    prompt_set = models.ForeignKey(PromptSet, on_delete=models.CASCADE, related_name="editions")
    number = models.PositiveIntegerField()
    cases = models.JSONField(help_text="As validation.cases.parse() takes them.")
    created_by = models.CharField(max_length=254, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["prompt_set", "number"], name="one_edition_per_number")]

    def __str__(self) -> str:
        return f"{self.prompt_set}, edition {self.number}"


class Rule(models.TextChoices):
    """What an update does with a version that does not pass."""

    OFF = "off", "Don't ask"
    WARN = "warn", "Ask, and only say so"
    BLOCK = "block", "Ask, and let nothing take calls that does not pass"


class Every(models.TextChoices):
    NEVER = "", "Never by itself"
    HOUR = "hour", "Every hour"
    DAY = "day", "Every day"
    WEEK = "week", "Every week"


SPANS = MappingProxyType({Every.HOUR: timedelta(hours=1), Every.DAY: timedelta(days=1), Every.WEEK: timedelta(days=7)})


class ValidationPlan(models.Model):
    """When a deployment is asked the prompts of a set: before an update takes traffic, and by the clock."""

    deployment = models.OneToOneField(
        "deployments.Deployment", on_delete=models.CASCADE, primary_key=True, related_name="validation_plan"
    )
    prompt_set = models.ForeignKey(PromptSet, on_delete=models.PROTECT, related_name="plans")
    on_update = models.CharField(max_length=5, choices=Rule.choices, default=Rule.OFF)
    every = models.CharField(max_length=4, choices=Every.choices, blank=True, default=Every.NEVER)
    wakes = models.BooleanField(default=False, help_text="By the clock also while it sleeps: wake it for that.")
    next_at = models.DateTimeField(null=True, blank=True, db_index=True)
    skipped_at = models.DateTimeField(null=True, blank=True, help_text="When it last slept through its time.")

    def __str__(self) -> str:
        return f"{self.prompt_set} for {self.deployment_id}"


class Ended(models.TextChoices):
    """Why a run broke off before all was asked."""

    NONE = "", ""
    BUDGET_SPENT = "budget_spent", "The team's budget is spent"
    NOT_CALLABLE = "not_callable", "The deployment can't be called"
    ENGINE_GONE = "engine_gone", "The engine went away"
    GATEWAY_AWAY = "gateway_away", "The portal's own endpoint can't be reached"
    CHANGED = "changed", "Another version took the calls meanwhile"
    TOO_LONG = "too_long", "It took longer than a run may take"
    TOO_MANY_CALLS = "too_many_calls", "It needs more calls than a run may make"
    WORKER_DIED = "worker_died", "Its worker died again and again"
    DEFECT = "defect", "The portal failed at it; its log says how"
    CALLED_OFF = "called_off", "It was called off"


class WorkQuerySet(models.QuerySet["Work"]):
    def open(self) -> "WorkQuerySet":
        return self.filter(status__in=OPEN)


WAITING, RUNNING = "waiting", "running"
OPEN = frozenset({WAITING, RUNNING})


class Work(models.Model):
    """Something a worker does in turns. Who does it holds its lease; a lease that runs out was a worker's that died."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="+")
    deployment = models.ForeignKey("deployments.Deployment", on_delete=models.CASCADE, related_name="%(class)ss")
    version = models.ForeignKey("deployments.Version", null=True, on_delete=models.CASCADE, related_name="%(class)ss")
    status = models.CharField(max_length=10, default=WAITING)
    ended = models.CharField(max_length=16, choices=Ended.choices, blank=True, default=Ended.NONE)
    detail = models.TextField(blank=True)
    owner = models.UUIDField(null=True, blank=True, help_text="Who holds the lease.")
    lease_until = models.DateTimeField(null=True, blank=True)
    lapses = models.PositiveSmallIntegerField(default=0, help_text="How many workers died over it.")
    deadline_at = models.DateTimeField()
    created_by = models.CharField(max_length=254, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[WorkQuerySet] = WorkQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        abstract = True
        ordering = ["-created_at"]

    @property
    def is_open(self) -> bool:
        return self.status in OPEN

    @property
    def took_s(self) -> float | None:
        if self.started_at is None:
            return None
        return ((self.finished_at or timezone.now()) - self.started_at).total_seconds()


class ValidationRun(Work):
    """One asking of an edition's prompts. By an update it asks the version's own replica, else the gateway."""

    class Status(models.TextChoices):
        WAITING = WAITING
        RUNNING = RUNNING
        PASSED = "passed"
        FAILED = "failed"
        UNCHECKED = "unchecked", "not all checked"
        ENDED = "ended", "broke off"

    class Trigger(models.TextChoices):
        DEMAND = "demand", "asked for"
        UPDATE = "update", "before an update"
        SCHEDULE = "schedule", "by the clock"

    edition = models.ForeignKey(Edition, on_delete=models.PROTECT, related_name="runs")
    trigger = models.CharField(max_length=8, choices=Trigger.choices)
    rule = models.CharField(max_length=5, choices=Rule.choices, blank=True, help_text="Of the update that waits.")
    replica = models.ForeignKey("deployments.Replica", null=True, on_delete=models.CASCADE, related_name="validations")
    wakes = models.BooleanField(default=True, help_text="It may wake a sleeper.")
    calls = models.PositiveIntegerField(default=0)
    cost = models.DecimalField(max_digits=38, decimal_places=18, default=0, help_text="USD, of the calls it made.")
    sealed_key = models.TextField(blank=True, help_text="The key it calls the gateway with, encrypted, while it runs.")
    key_id = models.UUIDField(null=True, blank=True)

    class Meta(Work.Meta):
        constraints = [
            models.UniqueConstraint(fields=["replica"], name="one_validation_per_trial"),
            models.UniqueConstraint(
                fields=["deployment"], condition=models.Q(status__in=[WAITING, RUNNING], replica=None),
                name="one_open_validation",
            ),
        ]  # fmt: skip
        indexes = [
            models.Index(fields=["status"], condition=models.Q(status__in=[WAITING, RUNNING]), name="open_validations"),
        ]

    def __str__(self) -> str:
        return f"{self.edition} at {self.deployment}"

    @property
    def status_text(self) -> str:
        return self.Status(self.status).label


class CaseResult(models.Model):
    """What was said to one case, and what its checks found."""

    run = models.ForeignKey(ValidationRun, on_delete=models.CASCADE, related_name="results")
    position = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=120)
    verdict = models.CharField(max_length=9, choices=[(one.value, one.value) for one in Verdict])
    answer = models.TextField(blank=True)
    problem = models.TextField(blank=True, help_text="Why there is no answer.")
    findings = models.JSONField(default=list, help_text="kind, verdict, text, diff of each check.")
    took_ms = models.PositiveIntegerField(null=True)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["run", "position"], name="one_result_per_case")]

    def __str__(self) -> str:
        return f"{self.name}: {self.verdict}"


class ThroughputRun(Work):
    """One measuring of a deployment's engine. What it found is the catalog's (catalog.Measurement.run)."""

    class Status(models.TextChoices):
        WAITING = WAITING
        RUNNING = RUNNING
        DONE = "done"
        ENDED = "ended", "broke off"

    class Meta(Work.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["deployment"], condition=models.Q(status__in=[WAITING, RUNNING]), name="one_open_throughput"
            ),
        ]
        indexes = [
            models.Index(fields=["status"], condition=models.Q(status__in=[WAITING, RUNNING]), name="open_throughputs"),
        ]

    def __str__(self) -> str:
        return f"throughput of {self.deployment}"

    @property
    def status_text(self) -> str:
        return self.Status(self.status).label
