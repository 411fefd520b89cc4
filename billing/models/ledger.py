"""The ledger: what is owed, one row per event and meter. Append-only: Postgres refuses UPDATE and DELETE."""

import uuid

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from accounts.models import Team
from billing.models.usage import Quality, UsageEvent, UsagePath


class CreditGrant(models.Model):
    """USD that a team need not pay, for what it uses from `starts_at` until `expires_at`. Append-only, as the ledger.

    What is used of it stands in the ledger: rows of kind credit that point here.
    """

    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="+")
    name = models.CharField(max_length=120, help_text="What the team reads on its bill.")
    usd = models.DecimalField(max_digits=14, decimal_places=2)
    starts_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Exclusive; empty: it never does.")
    granted_by = models.CharField(max_length=254)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(usd__gt=0), name="credit_more_than_nothing"),
            models.CheckConstraint(
                condition=Q(expires_at=None) | Q(expires_at__gt=F("starts_at")), name="credit_expires_after_its_start"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name}: ${self.usd}"


class LedgerEntry(models.Model):
    """`quantity` x `unit_price` = `amount`, exactly. A correction and a credit say why, and what they are about."""

    class Kind(models.TextChoices):
        USAGE = "usage"
        CREDIT = "credit"
        CORRECTION = "correction"

    team = models.ForeignKey(Team, on_delete=models.PROTECT, db_index=False, related_name="+")
    # Events lie in partitions, which no foreign key can point at by id alone. They are written in the same statement.
    event = models.ForeignKey(
        UsageEvent, null=True, on_delete=models.PROTECT, db_constraint=False, related_name="entries"
    )
    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.USAGE)
    at = models.DateTimeField(help_text="When the usage began; decides the day and the month of the bill.")
    path = models.CharField(max_length=10, choices=UsagePath.choices, blank=True, help_text="Empty: a credit.")
    sku = models.CharField(max_length=160)
    source = models.CharField(max_length=200)
    model_name = models.CharField(max_length=160)
    deployment_name = models.CharField(max_length=160, blank=True)
    api_key_name = models.CharField(max_length=100, blank=True)
    member = models.CharField(max_length=254, blank=True, help_text="E-mail of who called, or who made the key.")
    tag = models.CharField(max_length=64, blank=True, help_text="The caller's own label: its header, or its key's.")
    meter = models.CharField(max_length=40)
    quantity = models.DecimalField(max_digits=24, decimal_places=6)
    unit_price = models.DecimalField(max_digits=38, decimal_places=18)
    list_price = models.DecimalField(
        max_digits=24, decimal_places=12, null=True, help_text="Before the team's discount; empty: the unit price."
    )
    discount = models.DecimalField(max_digits=5, decimal_places=2, null=True, help_text="Percent; empty: none.")
    amount = models.DecimalField(max_digits=38, decimal_places=18)
    currency = models.CharField(max_length=3, default="USD")
    reason = models.CharField(max_length=200, blank=True)
    quality = models.CharField(max_length=9, choices=Quality.choices, blank=True, help_text="Empty: no usage.")
    calls = models.PositiveSmallIntegerField(
        default=0, help_text="1 on one row of each call, so that calls are counted by adding; compute has none."
    )
    uncached_price = models.DecimalField(
        max_digits=24, decimal_places=12, null=True, help_text="What a cached token costs when it is not cached."
    )
    corrects = models.ForeignKey(
        "self", null=True, on_delete=models.PROTECT, related_name="corrections", db_index=False
    )
    credit = models.ForeignKey(CreditGrant, null=True, on_delete=models.PROTECT, related_name="entries", db_index=False)

    class Meta:
        verbose_name_plural = "ledger entries"
        indexes = [
            models.Index(fields=["team", "at"], name="ledger_by_team"),
            # Few rows have these, so that a call's own rows cost nothing here. A month's close asks for its compute.
            models.Index(
                fields=["team", "at"], condition=Q(kind="usage", meter__startswith="compute."), name="ledger_compute"
            ),
            # It also reads usage apart from the few rows that say why.
            models.Index(fields=["team", "at"], condition=~Q(kind="usage", reason=""), name="ledger_beside_usage"),
            models.Index(fields=["corrects"], condition=Q(corrects__isnull=False), name="ledger_corrections"),
            models.Index(fields=["credit"], condition=Q(credit__isnull=False), name="ledger_credits"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["event", "meter"], condition=Q(kind="usage"), name="one_entry_per_event_and_meter"
            ),
            models.CheckConstraint(condition=Q(amount=F("quantity") * F("unit_price")), name="amount_is_exact"),
            models.CheckConstraint(
                condition=Q(kind="usage", corrects=None, credit=None)
                | (Q(kind="correction", credit=None) & (Q(event__isnull=False) | Q(corrects__isnull=False)))
                | (
                    Q(kind="credit", event=None, credit__isnull=False)
                    & (Q(corrects=None, amount__lt=0) | Q(corrects__isnull=False, amount__gt=0))  # used, given back
                ),
                name="entry_says_what_it_is_about",
            ),
            models.CheckConstraint(condition=Q(kind="usage") | ~Q(reason=""), name="entry_says_why"),
        ]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d} {self.source} {self.meter} {self.amount}"


class ChainSeal(models.Model):
    """The digest of a team's month after `entries` of its rows, up to the ledger's row `through`. Append-only.

    Seal number n covers the rows of the team with after < id <= through and begins <= at < ends, in the order of id;
    together the seals of a month cover its rows once each. See billing.chain for the digest.
    """

    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="+")
    month = models.DateField()
    number = models.PositiveIntegerField()
    begins = models.DateTimeField()
    ends = models.DateTimeField()
    after = models.BigIntegerField()
    through = models.BigIntegerField()
    entries = models.PositiveBigIntegerField(help_text="Rows of the month so far, these included.")
    digest = models.CharField(max_length=64)
    sealed_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["team", "month", "number"]
        constraints = [models.UniqueConstraint(fields=["team", "month", "number"], name="one_seal_per_number")]
        indexes = [models.Index(fields=["-through"], name="seals_by_row")]

    def __str__(self) -> str:
        return f"{self.team} {self.month:%Y-%m} {self.digest[:12]}"


class SealRun(models.Model):
    """Every row of the ledger up to `through` is under a seal. The last one is the watermark. Append-only."""

    through = models.BigIntegerField(unique=True)
    at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"through {self.through}"


class Rerating(models.Model):
    """A range that was charged at wrong prices, and what the price book says it should have been. One admin drafts
    it, another applies it; applying adds corrections, and never changes a row."""

    class State(models.TextChoices):
        DRAFT = "draft", "Drafted"
        APPLIED = "applied", "Applied"
        REJECTED = "rejected", "Rejected"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    sku = models.CharField(max_length=160)
    team = models.ForeignKey(
        Team, null=True, blank=True, on_delete=models.PROTECT, related_name="+", help_text="Empty: all teams."
    )
    since = models.DateTimeField(help_text="Usage that began at or after this.")
    until = models.DateTimeField(help_text="Usage that began before this.")
    reason = models.CharField(max_length=200, help_text="What the teams read on their bills.")
    state = models.CharField(max_length=8, choices=State.choices, default=State.DRAFT)
    drafted_by = models.CharField(max_length=254)
    drafted_at = models.DateTimeField(auto_now_add=True)
    decided_by = models.CharField(max_length=254, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-drafted_at"]
        constraints = [
            models.CheckConstraint(condition=Q(until__gt=F("since")), name="rerating_range_is_one"),
            models.CheckConstraint(condition=~Q(reason=""), name="rerating_says_why"),
        ]

    def __str__(self) -> str:
        return f"{self.sku} from {self.since:%Y-%m-%d} to {self.until:%Y-%m-%d}"


class RerateSum(models.Model):
    """What a re-rating would change for one team and meter, as it was drafted."""

    rerating = models.ForeignKey(Rerating, on_delete=models.CASCADE, related_name="sums")
    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="+")
    meter = models.CharField(max_length=40)
    events = models.PositiveBigIntegerField()
    quantity = models.DecimalField(max_digits=38, decimal_places=6)
    charged = models.DecimalField(max_digits=38, decimal_places=18, help_text="USD, as the ledger stands.")
    right = models.DecimalField(max_digits=38, decimal_places=18, help_text="USD, by the price book.")

    class Meta:
        ordering = ["team", "meter"]

    def __str__(self) -> str:
        return f"{self.team} {self.meter}: {self.charged} -> {self.right}"

    @property
    def difference(self) -> object:
        return self.right - self.charged
