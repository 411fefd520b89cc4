"""What may be spent, the counters that every reservation and settlement moves, and the alerts on the way there."""

import uuid
from decimal import Decimal

from django.db import models
from django.db.models import Q

from accounts.models import Team

ALERT_PERCENTS = [50, 80, 100]


def alert_percents() -> list[int]:
    return list(ALERT_PERCENTS)


class Budget(models.Model):
    """An amount in USD over tokens and compute together, for a month at a time or for one stretch of time.

    A hard one refuses the calls and puts to sleep the deployments that would pass it; a soft one only tells. The
    window of a fixed one never changes: its counter counts what began in it since it was made.
    """

    class Scope(models.TextChoices):
        TEAM = "team", "The whole team"
        KEY = "key", "One API key"
        DEPLOYMENT = "deployment", "One deployment"
        ALIAS = "alias", "One alias"

    class Period(models.TextChoices):
        MONTHLY = "monthly", "Each month"
        FIXED = "fixed", "Once, from a start to an end"

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="budgets")
    scope = models.CharField(max_length=10, choices=Scope.choices, default=Scope.TEAM)
    subject = models.CharField(
        max_length=200, blank=True, help_text="The key's id, the deployment's name, TEAM/ALIAS; empty for the team."
    )
    label = models.CharField(max_length=200, blank=True, help_text="What people call the subject.")
    period = models.CharField(max_length=8, choices=Period.choices, default=Period.MONTHLY)
    usd = models.DecimalField(max_digits=14, decimal_places=2)
    starts_at = models.DateTimeField(null=True, blank=True)
    ends_at = models.DateTimeField(null=True, blank=True, help_text="Exclusive.")
    hard = models.BooleanField(default=True, help_text="Refuse calls and put deployments to sleep; else only tell.")
    alert_percents = models.JSONField(default=alert_percents, help_text="Whole percents, each told once a period.")
    credit_usd = models.DecimalField(
        max_digits=38, decimal_places=18, default=Decimal(0), help_text="Credits on top, as of the last look at them."
    )
    credit_until = models.DateTimeField(null=True, help_text="From then on they count only once looked at again.")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["team", "scope", "subject"], condition=Q(period="monthly"), name="one_monthly_budget_each"
            ),
            models.CheckConstraint(condition=Q(usd__gt=0), name="budget_more_than_nothing"),
            models.CheckConstraint(
                condition=Q(scope="team", subject="") | (~Q(scope="team") & ~Q(subject="")), name="budget_has_a_subject"
            ),
            models.CheckConstraint(
                condition=Q(period="monthly", starts_at=None, ends_at=None)
                | Q(period="fixed", ends_at__gt=models.F("starts_at")),
                name="fixed_budget_has_a_window",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.whose}: ${self.usd} {self.how_long}"

    @property
    def whose(self) -> str:
        match self.scope:
            case self.Scope.TEAM:
                return "the team"
            case self.Scope.KEY:
                return f"the key {self.label or self.subject}"
            case _:
                return f"the {self.scope} {self.label or self.subject}"

    @property
    def how_long(self) -> str:
        if self.period == self.Period.MONTHLY:
            return "a month"
        return f"from {self.starts_at:%Y-%m-%d} to {self.ends_at:%Y-%m-%d}"


class Spend(models.Model):
    """One team's month: settled (equals the ledger's sum without credits) and held by open reservations, both USD."""

    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="+")
    month = models.DateField()
    settled = models.DecimalField(max_digits=38, decimal_places=18, default=0)
    held = models.DecimalField(max_digits=38, decimal_places=18, default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["team", "month"], name="one_spend_per_month")]

    def __str__(self) -> str:
        return f"{self.team_id} {self.month:%Y-%m} {self.settled}"


class Counter(models.Model):
    """What one key, deployment or alias has settled and holds in a month (`period` is its first day, 2026-11-01), or
    what a fixed budget counts (`period` is "budget 7"). It outlives its subject."""

    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="+")
    scope = models.CharField(max_length=10)
    subject = models.CharField(max_length=200, blank=True)
    period = models.CharField(max_length=28)
    settled = models.DecimalField(max_digits=38, decimal_places=18, default=0)
    held = models.DecimalField(max_digits=38, decimal_places=18, default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["team", "scope", "subject", "period"], name="one_counter_per_period")
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.subject} {self.period} {self.settled}"


class AlertSettings(models.Model):
    """Where a team hears of its budgets. The webhook's secret is sealed and shown once."""

    team = models.OneToOneField(Team, on_delete=models.CASCADE, related_name="+")
    emails = models.JSONField(default=list, help_text="Addresses; empty: the team's owners, admins and billing.")
    webhook_url = models.URLField(max_length=500, blank=True)
    sealed_secret = models.TextField(blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"alerts of {self.team}"


class BudgetAlert(models.Model):
    """A percentage of a budget was reached; once for each period."""

    budget = models.ForeignKey(Budget, on_delete=models.CASCADE, related_name="alerts")
    period = models.CharField(max_length=28)
    percent = models.PositiveSmallIntegerField()
    spent = models.DecimalField(max_digits=38, decimal_places=18)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["budget", "period", "percent"], name="one_alert_per_period")]

    def __str__(self) -> str:
        return f"{self.percent} % of {self.budget}"


class Delivery(models.Model):
    """One message on its way to one address, tried again until it arrives or is given up."""

    class Channel(models.TextChoices):
        EMAIL = "email", "E-mail"
        WEBHOOK = "webhook", "Webhook"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="+")
    channel = models.CharField(max_length=8, choices=Channel.choices)
    address = models.CharField(max_length=500)
    subject = models.CharField(max_length=200)
    body = models.TextField()
    attempts = models.PositiveSmallIntegerField(default=0)
    due_at = models.DateTimeField(null=True, help_text="When it is tried next; empty: arrived, or given up.")
    delivered_at = models.DateTimeField(null=True, blank=True)
    outcome = models.CharField(max_length=200, blank=True, help_text="What the last try met.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at"]
        verbose_name_plural = "deliveries"
        indexes = [models.Index(fields=["due_at"], condition=Q(due_at__isnull=False), name="deliveries_due")]

    def __str__(self) -> str:
        return f"{self.subject} to {self.address}"
