"""What a team has decided about licences, and what it has agreed to. Agreements are append-only: Postgres refuses
UPDATE and DELETE."""

import hashlib
from typing import Any

from django.db import models, transaction
from django.utils import timezone

from accounts.models import Team
from catalog.licensing.policy import Use, Verdict


class LicenceText(models.Model):
    """A licence's whole text, kept apart from its row, which is read far more often. What teams agree to: with another
    text they are asked again."""

    licence = models.OneToOneField("catalog.Licence", on_delete=models.CASCADE, primary_key=True, related_name="whole")
    text = models.TextField()

    def __str__(self) -> str:
        return f"the text of {self.licence_id}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        with transaction.atomic():
            super().save(*args, **kwargs)
            self._tell(hashlib.sha256(self.text.encode()).hexdigest())

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        with transaction.atomic():
            self._tell("")
            return super().delete(*args, **kwargs)

    def _tell(self, sha256: str) -> None:
        type(self.licence).objects.filter(pk=self.licence_id).update(text_sha256=sha256)
        self.licence.text_sha256 = sha256


class LicencePolicy(models.Model):
    """A team with a row has said what it mostly uses models for; without one it is internal."""

    team = models.OneToOneField(Team, on_delete=models.CASCADE, primary_key=True, related_name="licence_policy")
    default_use = models.CharField(max_length=10, choices=Use.choices, default=Use.INTERNAL)
    set_by = models.CharField(max_length=254)
    set_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name_plural = "licence policies"

    def __str__(self) -> str:
        return f"{self.team_id}: {self.default_use}"


class LicenceRule(models.Model):
    """A team's own verdict where it is another than the default. `subject` is a licence's slug, or kind:KIND."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="licence_rules")
    subject = models.CharField(max_length=70)
    use = models.CharField(max_length=10, choices=Use.choices)
    verdict = models.CharField(max_length=5, choices=Verdict.choices)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["team", "subject", "use"], name="one_licence_rule_per_use"),
        ]

    def __str__(self) -> str:
        return f"{self.subject} {self.use}: {self.verdict}"


class LicensedUse(models.Model):
    """What a team uses a model, a deployment or an alias for, by the name that callers write."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="licensed_uses")
    name = models.CharField(max_length=200)
    use = models.CharField(max_length=10, choices=Use.choices)
    set_by = models.CharField(max_length=254)
    set_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["team", "name"], name="one_use_per_name")]

    def __str__(self) -> str:
        return f"{self.name}: {self.use}"


class LicenceAgreement(models.Model):
    """Somebody of the team agreed to a licence for a use: to just the text with this sha256. Append-only."""

    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="licence_agreements")
    licence = models.CharField(max_length=60, help_text="Its slug.")
    licence_name = models.CharField(max_length=120)
    use = models.CharField(max_length=10, choices=Use.choices)
    text_sha256 = models.CharField(max_length=64)
    text = models.TextField(help_text="What was agreed to: the text where it is at hand, else the statement about it.")
    url = models.URLField(blank=True)
    model = models.CharField(max_length=100, help_text="The model it was first needed for.")
    agreed_by = models.CharField(max_length=254, help_text="The user's e-mail, or the key's prefix.")
    agreed_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-agreed_at", "-pk"]
        constraints = [
            models.UniqueConstraint(fields=["team", "licence", "use", "text_sha256"], name="agreed_once"),
        ]

    def __str__(self) -> str:
        return f"{self.licence_name}, {self.use}, by {self.agreed_by}"
