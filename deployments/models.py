"""A deployment is a wish (this model, on this hardware); its replicas are what really ran, from start to exit."""

import uuid

from django.db import models, transaction
from django.utils import timezone

from accounts.models import Team
from catalog.models import Hardware, Model, Weights
from deployments.errors import IllegalTransition
from deployments.lifecycle import MOVES, SETTLED, Reason, Status


class DeploymentQuerySet(models.QuerySet["Deployment"]):
    def unsettled(self) -> "DeploymentQuerySet":
        """Those that reconcile must look at."""
        return self.exclude(status__in=SETTLED)

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
    status = models.CharField(max_length=12, choices=Status.choices, default=Status.PENDING)
    reason = models.CharField(max_length=24, choices=Reason.choices, blank=True, default=Reason.ASKED)
    detail = models.TextField(blank=True, help_text="The evidence for the reason: a log line, an error.")
    status_since = models.DateTimeField(default=timezone.now)
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

    def transition(self, to: Status, *, since: str, reason: Reason, detail: str = "") -> None:
        """Move from `since` to `to` and record it, or raise IllegalTransition. No backend is called inside."""
        with transaction.atomic():
            row = Deployment.objects.select_for_update(no_key=True).get(pk=self.pk)
            if row.status != since or to not in MOVES[Status(since)]:
                raise IllegalTransition(f"{row.status} -> {to}, asked since {since}")
            now = timezone.now()
            Deployment.objects.filter(pk=row.pk).update(status=to, reason=reason, detail=detail, status_since=now)
            DeploymentEvent.objects.create(deployment=row, before=since, after=to, reason=reason, detail=detail, at=now)
        self.refresh_from_db()


class Replica(models.Model):
    """One engine that was asked for. `name` is its tag at the backend; it is billed from started_at to exited_at."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="replicas")
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True, help_text="The engine process's own start.")
    ready_at = models.DateTimeField(null=True, blank=True)
    exited_at = models.DateTimeField(null=True, blank=True, help_text="The engine process's own exit.")
    exit_code = models.IntegerField(null=True, blank=True, help_text="Negative: the signal that ended it.")
    exit_detail = models.TextField(blank=True, help_text="Its last log lines, if nobody had asked it to end.")
    crashed = models.BooleanField(default=False, help_text="It ended, or hung, though nobody had asked it to end.")
    remove_asked_at = models.DateTimeField(null=True, blank=True, help_text="It has to go; no call is sent to it.")
    unhealthy_since = models.DateTimeField(null=True, blank=True)
    billed_until = models.DateTimeField(null=True, blank=True)
    address = models.CharField(max_length=120, blank=True, help_text="http://127.0.0.1:port while it is up.")
    sealed_key = models.TextField(blank=True, help_text="The engine's random key, encrypted.")

    class Meta:
        ordering = ["created_at"]
        constraints = [
            # One replica at a time until scaling beyond one is built.
            models.UniqueConstraint(fields=["deployment"], condition=models.Q(exited_at=None), name="one_live_replica"),
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
