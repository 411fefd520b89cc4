"""What was billed: one immutable invoice for a team's month, and its way to people's mailboxes."""

from django.db import models
from django.db.models import F, Q

from accounts.models import Team


class Invoice(models.Model):
    """A closed month of one team. Append-only: Postgres refuses UPDATE and DELETE.

    It covers the team's ledger rows with at < `ends` and id <= `upto` that no earlier invoice covers: those with
    at >= `own_from`, and the late ones, before `own_from` but with id > `late_after`. So a row that comes after the
    month was closed stands on the next invoice, and what is on this one never changes.
    """

    number = models.PositiveIntegerField(unique=True, help_text="1, 2, 3 ... over the whole portal, without gaps.")
    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="+")
    month = models.DateField(help_text="Its first day.")
    team_slug = models.CharField(max_length=40)
    team_name = models.CharField(max_length=80)
    time_zone = models.CharField(max_length=64, help_text="Whose midnights the month begins and ends at.")
    issuer = models.CharField(max_length=200)
    address = models.TextField(blank=True, help_text="To whom it is written, as it stood then.")
    begins = models.DateTimeField()
    ends = models.DateTimeField(help_text="Exclusive.")
    own_from = models.DateTimeField(null=True, help_text="Where the invoice before ended; empty: there was none.")
    late_after = models.BigIntegerField(null=True, help_text="The last ledger row that the invoice before could see.")
    upto = models.BigIntegerField(help_text="The last ledger row that this invoice could see.")
    total = models.DecimalField(max_digits=38, decimal_places=18, help_text="The exact sum of its rows.")
    due = models.DecimalField(max_digits=20, decimal_places=2, help_text="`total` in whole cents.")
    currency = models.CharField(max_length=3, default="USD")
    entries = models.PositiveBigIntegerField(help_text="Ledger rows on it.")
    events = models.PositiveBigIntegerField(help_text="Calls and slices of compute of the month.")
    estimated = models.PositiveBigIntegerField(help_text="Those of them that are estimated, not measured.")
    lines = models.JSONField(help_text="The lines with names, quantities and prices as they stood; see invoicing.Line.")
    checks = models.JSONField(help_text="What was held against what before it was issued: [{name, says}].")
    issued_at = models.DateTimeField()

    class Meta:
        ordering = ["-month"]
        constraints = [
            models.UniqueConstraint(fields=["team", "month"], name="one_invoice_per_month"),
            models.CheckConstraint(condition=Q(ends__gt=F("begins")), name="invoice_month_is_one"),
            models.CheckConstraint(condition=Q(number__gt=0), name="invoice_numbers_begin_at_one"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        """The number as it is printed: `MP-000012`."""
        return f"MP-{self.number:06d}"

    @property
    def month_name(self) -> str:
        return f"{self.month:%Y-%m}"


class StatementHead(models.Model):
    """The digest of the last row of an invoice's detail file (billing.chain), and how many rows lead to it.
    Append-only."""

    invoice = models.OneToOneField(Invoice, on_delete=models.PROTECT, primary_key=True, related_name="head")
    rows = models.PositiveBigIntegerField()
    digest = models.CharField(max_length=64)
    made_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.invoice} {self.digest[:12]}"


class UnclosedMonth(models.Model):
    """A month that could not be closed when it was last tried. Gone once it is closed."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="+")
    month = models.DateField(help_text="Its first day.")
    reason = models.TextField(help_text="What did not fit.")
    since = models.DateTimeField(auto_now_add=True)
    tried_at = models.DateTimeField()

    class Meta:
        ordering = ["month", "team"]
        verbose_name = "month that is not closed"
        verbose_name_plural = "months that are not closed"
        constraints = [models.UniqueConstraint(fields=["team", "month"], name="one_row_per_unclosed_month")]

    def __str__(self) -> str:
        return f"{self.month:%B %Y} of {self.team}"


class StatementMail(models.Model):
    """A team's wish about its invoices: to whom they are written, and whether they are mailed."""

    team = models.OneToOneField(Team, on_delete=models.CASCADE, related_name="+")
    address = models.TextField(blank=True, help_text="Printed on the invoice: company, street, tax number.")
    emails = models.JSONField(default=list, help_text="Who gets each month's invoice; empty: nobody.")
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"invoices of {self.team}"


class InvoiceMail(models.Model):
    """One invoice on its way to its addresses; tried again until it has gone or is given up."""

    invoice = models.OneToOneField(Invoice, on_delete=models.PROTECT, related_name="mail")
    emails = models.JSONField()
    attempts = models.PositiveSmallIntegerField(default=0)
    due_at = models.DateTimeField(null=True, help_text="When it is tried next; empty: it has gone, or was given up.")
    sent_at = models.DateTimeField(null=True, blank=True)
    outcome = models.CharField(max_length=200, blank=True, help_text="What the last try met.")

    class Meta:
        indexes = [models.Index(fields=["due_at"], condition=Q(due_at__isnull=False), name="invoice_mails_due")]

    def __str__(self) -> str:
        return f"{self.invoice} to {', '.join(self.emails)}"


class ProviderImport(models.Model):
    """A provider's own usage or cost file, as somebody read it in."""

    provider = models.CharField(max_length=40, help_text="openai, anthropic or generic: the shape of the file.")
    filename = models.CharField(max_length=200)
    sha256 = models.CharField(max_length=64, unique=True, help_text="Of file and names: the same twice is one import.")
    first_day = models.DateField()
    last_day = models.DateField()
    rows = models.PositiveIntegerField()
    skipped = models.JSONField(default=list, help_text="Lines that say nothing that can be compared, and why.")
    names = models.JSONField(default=dict, help_text="The provider's names of models -> ours, where they differ.")
    imported_by = models.CharField(max_length=254)
    imported_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-imported_at", "-pk"]

    def __str__(self) -> str:
        return f"{self.provider} {self.first_day} to {self.last_day}"


class ProviderUsage(models.Model):
    """What a provider says of one UTC day, model and meter. `cost` is in USD; a file of usage alone has none."""

    source = models.ForeignKey(ProviderImport, on_delete=models.CASCADE, related_name="usage")
    day = models.DateField()
    model = models.CharField(max_length=160)
    meter = models.CharField(max_length=40, blank=True, help_text="Empty: a cost that is not told apart by meter.")
    quantity = models.DecimalField(max_digits=24, decimal_places=6, null=True)
    cost = models.DecimalField(max_digits=38, decimal_places=18, null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["source", "day", "model", "meter"], name="one_provider_row_per_day")
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.model} {self.meter}"
