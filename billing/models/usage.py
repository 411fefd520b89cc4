"""Usage: a durable reservation before a call, an immutable event after it."""

import uuid

from django.contrib.postgres.fields import ArrayField
from django.db import models

from accounts.models import Team


class UsagePath(models.TextChoices):
    HOSTED = "hosted"
    SERVERLESS = "serverless"


class Quality(models.TextChoices):
    MEASURED = "measured"
    ESTIMATED = "estimated"


class Reservation(models.Model):
    """A call that was let in and may cost up to `amount`. Written by billing alone, before the upstream is called."""

    class State(models.TextChoices):
        OPEN = "open"
        SETTLED = "settled"
        VOID = "void"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="+")
    state = models.CharField(max_length=8, choices=State.choices, default=State.OPEN)
    path = models.CharField(max_length=10, choices=UsagePath.choices)
    sku = models.CharField(max_length=160)
    source = models.CharField(max_length=200, help_text="What was called, as the caller names it.")
    model_name = models.CharField(max_length=160)
    deployment_name = models.CharField(max_length=160, blank=True)
    api_key_name = models.CharField(max_length=100, blank=True)
    member = models.CharField(max_length=254, blank=True, help_text="E-mail of who called, or who made the key.")
    tag = models.CharField(max_length=64, blank=True, help_text="The caller's own label: its header, or its key's.")
    api_key_id = models.UUIDField(null=True, help_text="Whose own cap it is held against, too.")
    alias = models.CharField(max_length=200, blank=True, help_text="TEAM/ALIAS, if it was called by one.")
    fixed_budgets = ArrayField(
        models.BigIntegerField(), default=list, help_text="The fixed budgets whose counters hold it, too."
    )
    prices = models.JSONField(help_text="meter -> unit price as an exact decimal string, in force at started_at.")
    estimate = models.JSONField(help_text="meter -> quantity that a dead owner's call is settled with.")
    amount = models.DecimalField(max_digits=38, decimal_places=18, help_text="USD held against the budget.")
    month = models.DateField(help_text="First day of the month, in the team's time zone, whose budget holds it.")
    started_at = models.DateTimeField()
    lease_until = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["lease_until"], condition=models.Q(state="open"), name="open_reservations"),
        ]

    def __str__(self) -> str:
        return f"{self.id} {self.state}"


class UsageEvent(models.Model):
    """One call's (or one compute slice's) measured usage. Append-only: Postgres refuses UPDATE and DELETE.

    Partitioned by the month of `started_at` (billing.partitions), so its key in the database is (id, started_at). An id
    has one `started_at` for ever: a call's is its reservation's, a slice's id is made of it.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    team = models.ForeignKey(Team, on_delete=models.PROTECT, db_index=False, related_name="+")
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField()
    recorded_at = models.DateTimeField()
    path = models.CharField(max_length=10, choices=UsagePath.choices)
    sku = models.CharField(max_length=160)
    source = models.CharField(max_length=200)
    model_name = models.CharField(max_length=160)
    deployment_name = models.CharField(max_length=160, blank=True)
    api_key_name = models.CharField(max_length=100, blank=True)
    member = models.CharField(max_length=254, blank=True, help_text="E-mail of who called, or who made the key.")
    tag = models.CharField(max_length=64, blank=True, help_text="The caller's own label: its header, or its key's.")
    quality = models.CharField(max_length=9, choices=Quality.choices)
    quantities = models.JSONField(help_text="meter -> exact decimal string")
    raw_usage = models.JSONField(null=True, blank=True, help_text="The provider's usage object, as it came.")
    cost = models.DecimalField(max_digits=38, decimal_places=18)

    class Meta:
        indexes = [
            models.Index(fields=["team", "started_at"], name="usage_by_team"),
            # Few, and asked for on every report: how much is not measured.
            models.Index(
                fields=["team", "started_at"], condition=models.Q(quality="estimated"), name="estimated_usage"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.source} {self.cost}"
