"""What a team may spend in a month, and the counter that every reservation and settlement moves."""

from django.db import models

from accounts.models import ApiKey, Team


class Budget(models.Model):
    """A hard monthly cap in USD over tokens and compute together. No row: no cap."""

    team = models.OneToOneField(Team, on_delete=models.CASCADE, related_name="budget")
    monthly_usd = models.DecimalField(max_digits=14, decimal_places=2)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"{self.team}: {self.monthly_usd} USD a month"


class Spend(models.Model):
    """One team's month: settled (equals the ledger's sum) and held by open reservations, both USD."""

    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="+")
    month = models.DateField()
    settled = models.DecimalField(max_digits=38, decimal_places=18, default=0)
    held = models.DecimalField(max_digits=38, decimal_places=18, default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["team", "month"], name="one_spend_per_month")]

    def __str__(self) -> str:
        return f"{self.team_id} {self.month:%Y-%m} {self.settled}"


class KeyBudget(models.Model):
    """A hard monthly cap in USD for one key, inside its team's. No row: no cap of its own."""

    api_key = models.OneToOneField(ApiKey, on_delete=models.CASCADE, related_name="budget")
    monthly_usd = models.DecimalField(max_digits=14, decimal_places=2)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"{self.api_key}: {self.monthly_usd} USD a month"


class KeySpend(models.Model):
    """One key's month, as Spend is the team's; it outlives the key."""

    api_key_id = models.UUIDField()
    month = models.DateField()
    settled = models.DecimalField(max_digits=38, decimal_places=18, default=0)
    held = models.DecimalField(max_digits=38, decimal_places=18, default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["api_key_id", "month"], name="one_key_spend_per_month")]

    def __str__(self) -> str:
        return f"{self.api_key_id} {self.month:%Y-%m} {self.settled}"
