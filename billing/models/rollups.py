"""The ledger's sums, for pages: rows up to the mark are in them once each. Written by billing.rollups alone; made anew
from the ledger at any time."""

from django.db import models

from accounts.models import Team
from billing.models.ledger import LedgerEntry
from billing.models.usage import UsagePath


class RollupMark(models.Model):
    """One row. Every ledger row up to `through` is in the sums, none after it. `turn` counts the changes."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    through = models.BigIntegerField(default=0)
    turn = models.BigIntegerField(default=0)
    looked_at = models.DateTimeField(null=True, help_text="When there was last nothing left to sum.")

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="one_rollup_mark")]

    def __str__(self) -> str:
        return f"through {self.through}"


class RollupSubject(models.Model):
    """What a sum is of. With `split` empty all names are told apart; else that one alone, and the others are empty
    ("all": none of them)."""

    digest = models.BinaryField(max_length=32, unique=True, help_text="SHA-256 of everything below.")
    team = models.ForeignKey(Team, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+")
    split = models.CharField(max_length=10, blank=True)
    path = models.CharField(max_length=10, choices=UsagePath.choices, blank=True)
    kind = models.CharField(max_length=10, choices=LedgerEntry.Kind.choices)
    sku = models.CharField(max_length=160, blank=True)
    model_name = models.CharField(max_length=160, blank=True)
    deployment_name = models.CharField(max_length=160, blank=True)
    api_key_name = models.CharField(max_length=100, blank=True)
    member = models.CharField(max_length=254, blank=True)
    tag = models.CharField(max_length=64, blank=True)
    meter = models.CharField(max_length=40, blank=True)
    unit_price = models.DecimalField(max_digits=38, decimal_places=18)

    def __str__(self) -> str:
        return f"{self.split} {self.path} {self.meter}"


class _Sums(models.Model):
    quantity = models.DecimalField(max_digits=38, decimal_places=6)
    amount = models.DecimalField(max_digits=38, decimal_places=18)
    calls = models.BigIntegerField(help_text="Calls, each once.")
    uses = models.BigIntegerField(help_text="Calls that used the meter.")
    saved = models.DecimalField(max_digits=38, decimal_places=18)
    entries = models.BigIntegerField(help_text="Ledger rows.")

    class Meta:
        abstract = True


class RollupQuarter(_Sums):
    """A quarter of an hour of one subject with all its names. Every day and hour of every time zone begins with one."""

    pk = models.CompositePrimaryKey("team_id", "at", "subject_id")
    team = models.ForeignKey(Team, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+")
    at = models.DateTimeField(help_text="When it begins.")
    subject = models.ForeignKey(
        RollupSubject, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} {self.amount}"


class RollupDay(_Sums):
    """A day of one subject, of the team's own calendar (see RollupZone)."""

    pk = models.CompositePrimaryKey("team_id", "split", "day", "subject_id")
    team = models.ForeignKey(Team, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+")
    split = models.CharField(max_length=10, blank=True)
    day = models.DateField()
    subject = models.ForeignKey(
        RollupSubject, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )

    def __str__(self) -> str:
        return f"{self.day} {self.split} {self.amount}"


class RollupZone(models.Model):
    """Whose midnights the team's RollupDays are cut at. Another than the team's own until the next run has cut anew."""

    team = models.OneToOneField(Team, on_delete=models.CASCADE, primary_key=True, related_name="+")
    zone = models.CharField(max_length=64)

    def __str__(self) -> str:
        return f"{self.team_id} {self.zone}"


class RollupLate(models.Model):
    """A ledger row up to the mark that came after its time had been invoiced: it stands on a later statement."""

    entry_id = models.BigIntegerField(primary_key=True)
    team = models.ForeignKey(Team, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+")
    at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["team", "at"], name="late_by_team")]

    def __str__(self) -> str:
        return f"{self.entry_id}"
