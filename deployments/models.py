"""A deployment is a wish (this model, on this hardware); its replicas are what really ran, from start to exit."""

import uuid
from datetime import datetime, timedelta

from django.contrib.postgres.fields import ArrayField
from django.db import models, transaction
from django.utils import timezone

from accounts.models import Team
from catalog.models import Hardware, Model, Weights
from deployments import news
from deployments.errors import IllegalTransition
from deployments.lifecycle import (
    DEADLINES_S,
    MOVES,
    QUEUE_DEADLINE_S,
    QUIET,
    SETTLED,
    STARTS,
    VALIDATION_DEADLINE_S,
    Reason,
    Status,
)  # fmt: skip
from deployments.validation.models import (  # noqa: F401 - tables of this app, kept beside their work
    CaseResult,
    Edition,
    PromptSet,
    ThroughputRun,
    ValidationPlan,
    ValidationRun,
)


class DeploymentQuerySet(models.QuerySet["Deployment"]):
    def unsettled(self) -> "DeploymentQuerySet":
        """Those that reconcile must look at."""
        return self.exclude(status__in=SETTLED)

    def astir(self) -> "DeploymentQuerySet":
        """Those in a state to be looked after, with a wish to stop, or asleep for want of money alone; the rest is
        quiet while nothing runs."""
        wished = models.Q(stop_asked_at__isnull=False) & ~models.Q(status__in=SETTLED)
        broke = models.Q(status=Status.ASLEEP, reason=Reason.BUDGET_SPENT, min_replicas__gt=0)
        return self.filter(~models.Q(status__in=QUIET) | wished | broke)

    def of(self, team: Team) -> "DeploymentQuerySet":
        return self.filter(team=team)


class Deployment(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="deployments")
    name = models.SlugField(max_length=60)
    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="deployments")
    weights = models.ForeignKey(Weights, on_delete=models.PROTECT, related_name="deployments")
    hardware = models.ForeignKey(Hardware, on_delete=models.PROTECT, related_name="deployments")
    engine = models.CharField(max_length=40)
    backend = models.CharField(max_length=40)
    options = models.JSONField(default=dict, blank=True)
    min_replicas = models.PositiveSmallIntegerField(default=0)
    max_replicas = models.PositiveSmallIntegerField(default=1)
    idle_window_s = models.PositiveIntegerField(default=600)
    hold_s = models.PositiveIntegerField(
        null=True, blank=True, help_text="How long a call waits for it to wake; empty: the portal's default."
    )
    start_deadline_s = models.PositiveIntegerField(default=120)
    target_concurrency = models.PositiveSmallIntegerField(default=4, help_text="Calls at once that a replica is for.")
    version = models.ForeignKey(
        "Version", null=True, blank=True, on_delete=models.PROTECT, related_name="+", help_text="What takes the calls."
    )
    next_version = models.ForeignKey(
        "Version", null=True, blank=True, on_delete=models.PROTECT, related_name="+", help_text="What an update tries."
    )
    status = models.CharField(max_length=12, choices=Status.choices, default=Status.PENDING)
    reason = models.CharField(max_length=24, choices=Reason.choices, blank=True, default=Reason.ASKED)
    detail = models.TextField(blank=True, help_text="The evidence for the reason: a log line, an error.")
    status_since = models.DateTimeField(default=timezone.now)
    deadline_at = models.DateTimeField(
        null=True, blank=True, help_text="When its state is given up; empty: it may last."
    )
    next_try_at = models.DateTimeField(null=True, blank=True, help_text="After a crash: nothing is started before.")
    queued_at = models.DateTimeField(null=True, blank=True, help_text="Since when it waits for capacity.")
    surplus_since = models.DateTimeField(null=True, blank=True, help_text="Since when fewer replicas have been enough.")
    surplus_peak = models.PositiveSmallIntegerField(default=0, help_text="The most that were needed since then.")
    stop_asked_at = models.DateTimeField(null=True, blank=True)
    last_call_at = models.DateTimeField(null=True, blank=True)
    created_by = models.CharField(max_length=254, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = DeploymentQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["team", "name"], condition=~models.Q(status="stopped"), name="one_live_name_per_team"
            ),
        ]
        indexes = [
            models.Index(fields=["status"], condition=~models.Q(status="stopped"), name="live_deployments"),
        ]

    def __str__(self) -> str:
        return self.endpoint_model

    @property
    def endpoint_model(self) -> str:
        """What a caller writes as `model`."""
        return f"{self.team.slug}/{self.name}"

    def deadline_from(self, moment: datetime, *, status: str, reason: str) -> datetime | None:
        """When this state, entered at that moment for that reason, is given up; None: it may last."""
        if reason == Reason.NO_CAPACITY and status not in QUIET:
            return moment + timedelta(seconds=QUEUE_DEADLINE_S)
        if reason == Reason.VALIDATING and status == Status.UPDATING:
            return moment + timedelta(seconds=VALIDATION_DEADLINE_S)
        if status in STARTS:
            return moment + timedelta(seconds=self.start_deadline_s)
        seconds = DEADLINES_S.get(Status(status))
        return None if seconds is None else moment + timedelta(seconds=seconds)

    def transition(self, to: Status, *, since: str, reason: Reason, detail: str = "") -> None:
        """Move from `since` to `to` and record it, or raise IllegalTransition. No backend is called inside."""
        if to not in MOVES[Status(since)]:
            raise IllegalTransition(f"{since} -> {to} does not exist")
        self._enter(to, since=since, reason=reason, detail=detail)

    def restate(self, reason: Reason, *, since: str, detail: str = "") -> None:
        """Stay in `since` for another reason, with a deadline of its own, and record it, or raise IllegalTransition."""
        self._enter(Status(since), since=since, reason=reason, detail=detail)

    def _enter(self, to: Status, *, since: str, reason: Reason, detail: str) -> None:
        with transaction.atomic():
            row = Deployment.objects.select_for_update(no_key=True).get(pk=self.pk)
            if row.status != since:
                raise IllegalTransition(f"{row.status} -> {to}, asked since {since}")
            now = timezone.now()
            fresh = {
                "status": to, "reason": reason, "detail": detail, "status_since": now,
                "deadline_at": row.deadline_from(now, status=to, reason=reason),
                "queued_at": (row.queued_at or now) if reason == Reason.NO_CAPACITY and to not in QUIET else None,
            }  # fmt: skip
            Deployment.objects.filter(pk=row.pk).update(**fresh)
            DeploymentEvent.objects.create(deployment=row, before=since, after=to, reason=reason, detail=detail, at=now)
            news.tell(row.pk)
        for name, value in fresh.items():
            setattr(self, name, value)


class Version(models.Model):
    """What runs: weights, adapters and options in an engine on a hardware, with its environment. Never changed: an
    update makes another, so that a step back brings all of it back."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    weights = models.ForeignKey(Weights, on_delete=models.PROTECT, related_name="+")
    hardware = models.ForeignKey(Hardware, on_delete=models.PROTECT, related_name="+")
    engine = models.CharField(max_length=40)
    options = models.JSONField(default=dict, blank=True)
    env = models.JSONField(default=dict, blank=True, help_text="The engine's environment, as the team set it.")
    sealed_secrets = models.JSONField(
        default=dict, blank=True, editable=False, help_text="Name -> value, encrypted; of its environment too."
    )
    created_by = models.CharField(max_length=254, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    served_at = models.DateTimeField(null=True, blank=True, help_text="When it last began to take the calls.")

    class Meta:
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["deployment", "number"], name="one_version_per_number")]

    def __str__(self) -> str:
        return f"version {self.number}"

    @property
    def secret_names(self) -> list[str]:
        """All that anybody is told of them."""
        return sorted(self.sealed_secrets)


class VersionAdapter(models.Model):
    """A LoRA that a version applies to its weights, with how much of it."""

    version = models.ForeignKey(Version, on_delete=models.CASCADE, related_name="adapters")
    weights = models.ForeignKey(Weights, on_delete=models.PROTECT, related_name="applications")
    scale = models.FloatField(default=1.0)

    class Meta:
        ordering = ["pk"]
        constraints = [models.UniqueConstraint(fields=["version", "weights"], name="an_adapter_once")]

    def __str__(self) -> str:
        return f"{self.weights} on {self.version}"


class Replica(models.Model):
    """One engine that was asked for. `name` is its tag at the backend; it is billed from started_at to exited_at."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="replicas")
    ordinal = models.PositiveSmallIntegerField(default=0, help_text="Its place among the deployment's live replicas.")
    version = models.ForeignKey(Version, null=True, blank=True, on_delete=models.PROTECT, related_name="replicas")
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True, help_text="The engine process's own start.")
    ready_at = models.DateTimeField(null=True, blank=True, help_text="Calls are sent to it from then on.")
    seen_at = models.DateTimeField(null=True, blank=True, help_text="When the backend last said that it lives.")
    exited_at = models.DateTimeField(null=True, blank=True, help_text="The engine process's own exit.")
    exit_code = models.IntegerField(null=True, blank=True, help_text="Negative: the signal that ended it.")
    exit_detail = models.TextField(blank=True, help_text="Its last log lines, if nobody had asked it to end.")
    crashed = models.BooleanField(default=False, help_text="It ended, or hung, though nobody had asked it to end.")
    remove_asked_at = models.DateTimeField(null=True, blank=True, help_text="It has to go; no call is sent to it.")
    unhealthy_since = models.DateTimeField(null=True, blank=True)
    billed_until = models.DateTimeField(null=True, blank=True)
    prices = models.JSONField(
        default=dict, blank=True, help_text="meter -> price in force at its start, exact decimals."
    )
    address = models.CharField(max_length=120, blank=True, help_text="http://127.0.0.1:port while it is up.")
    peak_bytes = models.BigIntegerField(null=True, blank=True, help_text="The most memory that its processes took.")
    sealed_key = models.TextField(blank=True, help_text="The engine's random key, encrypted.")

    class Meta:
        ordering = ["created_at"]
        constraints = [
            # Two workers that start the same replica at once make one.
            models.UniqueConstraint(
                fields=["deployment", "ordinal"], condition=models.Q(exited_at=None), name="one_live_replica_per_place"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        return f"r-{self.id.hex}"

    @property
    def exit_signal(self) -> int | None:
        """Which signal ended it, if one did."""
        return -self.exit_code if self.exit_code is not None and self.exit_code < 0 else None


class DeploymentEvent(models.Model):
    """One move of a deployment's life; the timeline on its page."""

    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="events")
    before = models.CharField(max_length=12, blank=True)
    after = models.CharField(max_length=12)
    reason = models.CharField(max_length=24, blank=True)
    detail = models.TextField(blank=True)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["at", "id"]

    def __str__(self) -> str:
        return f"{self.before} -> {self.after}"

    @property
    def reason_text(self) -> str:
        return Reason(self.reason).label if self.reason in Reason.values else self.reason


class GatewayReport(models.Model):
    """What one gateway process holds now. A report that is not renewed within GATEWAY_FRESH counts for nothing."""

    reporter = models.CharField(max_length=64, primary_key=True)
    at = models.DateTimeField()
    calls = models.JSONField(default=dict, help_text="replica -> calls in flight there.")
    waiting = models.JSONField(default=dict, help_text="deployment -> calls held because none is ready.")
    routed = models.JSONField(default=list, help_text="Replicas that it would send the next call to.")

    def __str__(self) -> str:
        return self.reporter


class CallTally(models.Model):
    """The calls of one deployment that ended within ten seconds: for its page, never for a bill. Kept for a day."""

    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="tallies", db_index=False)
    at = models.DateTimeField(db_index=True, help_text="When the ten seconds began.")
    calls = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0, help_text="Answered with 500 or more.")
    tokens_in = models.PositiveBigIntegerField(default=0)
    tokens_out = models.PositiveBigIntegerField(default=0)
    first_token = ArrayField(
        models.PositiveIntegerField(),
        default=list,
        help_text="How many streams began within each of tallies.BOUNDS_MS.",
    )

    class Meta:
        verbose_name_plural = "call tallies"
        constraints = [models.UniqueConstraint(fields=["deployment", "at"], name="one_tally_per_ten_seconds")]

    def __str__(self) -> str:
        return f"{self.calls} calls at {self.at:%H:%M:%S}"


class Orphan(models.Model):
    """An engine that ran without a live row and was removed: what, when, since when it ran."""

    backend = models.CharField(max_length=40)
    name = models.CharField(max_length=80, help_text="Its tag at the backend.")
    found_at = models.DateTimeField(default=timezone.now)
    ran_since = models.DateTimeField(null=True, help_text="The engine process's own start, if the backend knew it.")
    gone_at = models.DateTimeField(null=True, help_text="When the backend listed it no more; empty: it is still there.")
    belonged_to = models.CharField(max_length=140, blank=True, help_text="Whose replica it had been, if a row says so.")

    class Meta:
        ordering = ["-found_at"]
        constraints = [models.UniqueConstraint(fields=["backend", "name"], name="one_report_per_orphan")]

    def __str__(self) -> str:
        return self.name
