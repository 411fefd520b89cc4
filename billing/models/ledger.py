"""The ledger: what is owed, one row per event and meter. Append-only: Postgres refuses UPDATE and DELETE."""

from django.db import models

from accounts.models import Team
from billing.models.usage import UsageEvent, UsagePath


class LedgerEntry(models.Model):
    class Kind(models.TextChoices):
        USAGE = "usage"
        CREDIT = "credit"
        CORRECTION = "correction"

    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="+")
    event = models.ForeignKey(UsageEvent, null=True, on_delete=models.PROTECT, related_name="entries")
    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.USAGE)
    at = models.DateTimeField(help_text="When the usage began; decides the day and the month of the bill.")
    path = models.CharField(max_length=10, choices=UsagePath.choices)
    sku = models.CharField(max_length=160)
    source = models.CharField(max_length=200)
    model_name = models.CharField(max_length=160)
    deployment_name = models.CharField(max_length=160, blank=True)
    api_key_name = models.CharField(max_length=100, blank=True)
    meter = models.CharField(max_length=40)
    quantity = models.DecimalField(max_digits=24, decimal_places=6)
    unit_price = models.DecimalField(max_digits=24, decimal_places=12)
    amount = models.DecimalField(max_digits=38, decimal_places=18)
    currency = models.CharField(max_length=3, default="USD")
    reason = models.CharField(max_length=200, blank=True)

    class Meta:
        verbose_name_plural = "ledger entries"
        indexes = [models.Index(fields=["team", "at"], name="ledger_by_team")]
        constraints = [
            models.UniqueConstraint(
                fields=["event", "meter"], condition=models.Q(kind="usage"), name="one_entry_per_event_and_meter"
            ),
            models.CheckConstraint(
                condition=models.Q(amount=models.F("quantity") * models.F("unit_price")), name="amount_is_exact"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d} {self.source} {self.meter} {self.amount}"
