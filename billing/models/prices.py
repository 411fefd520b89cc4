"""Versioned prices. A price is never edited: a new one with a later valid_from takes its place; of two from the same
moment, the one entered last. Drafts can be changed until they are active; teams' discounts are versions, too."""

from django.db import models
from django.db.models import Q

from accounts.models import Team


class Price(models.Model):
    """The price of ONE unit (one token, one second) of `meter` for `sku`, in force from `valid_from` on."""

    sku = models.CharField(max_length=160)
    meter = models.CharField(max_length=40)
    above_tokens = models.PositiveIntegerField(
        default=0, help_text="Only for calls whose prompt is longer than this; 0: for all."
    )
    amount = models.DecimalField(max_digits=24, decimal_places=12, help_text="USD for one unit.")
    currency = models.CharField(max_length=3, default="USD")
    valid_from = models.DateTimeField()
    source = models.CharField(max_length=200, help_text="Where the price was read.")
    source_date = models.DateField(help_text="The day it was read.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["sku", "meter", "above_tokens", "-valid_from"]
        constraints = [
            models.CheckConstraint(condition=Q(amount__gte=0), name="price_not_negative"),
        ]
        indexes = [models.Index(fields=["sku", "meter", "above_tokens", "-valid_from"], name="prices_in_force")]

    def __str__(self) -> str:
        return f"{self.sku} {self.meter} {self.amount} {self.currency}"


class PriceDraft(models.Model):
    """A price that is not in force yet: drafted by hand or by an import, reviewed, then made active, which writes the
    Price. `batch` says what it came with."""

    class State(models.TextChoices):
        DRAFT = "draft", "Draft"
        REVIEWED = "reviewed", "Reviewed"
        ACTIVE = "active", "Active"
        REJECTED = "rejected", "Rejected"

    sku = models.CharField(max_length=160)
    meter = models.CharField(max_length=40)
    above_tokens = models.PositiveIntegerField(default=0)
    amount = models.DecimalField(max_digits=24, decimal_places=12, help_text="USD for one unit.")
    valid_from = models.DateTimeField()
    source = models.CharField(max_length=200)
    source_date = models.DateField()
    batch = models.CharField(max_length=80, blank=True)
    state = models.CharField(max_length=8, choices=State.choices, default=State.DRAFT)
    jump_confirmed = models.BooleanField(
        default=False, help_text="It differs from the price in force a thousandfold or more, and that is meant."
    )
    drafted_by = models.CharField(max_length=254)
    drafted_at = models.DateTimeField(auto_now_add=True)
    reviewed_by = models.CharField(max_length=254, blank=True)
    decided_by = models.CharField(max_length=254, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    price = models.OneToOneField(Price, null=True, blank=True, on_delete=models.PROTECT, related_name="draft")

    class Meta:
        ordering = ["sku", "meter", "above_tokens"]
        constraints = [
            models.CheckConstraint(condition=Q(amount__gte=0), name="draft_price_not_negative"),
            models.CheckConstraint(
                condition=Q(state="active", price__isnull=False) | (~Q(state="active") & Q(price=None)),
                name="active_draft_has_a_price",
            ),
            models.UniqueConstraint(
                fields=["sku", "meter", "above_tokens", "valid_from"],
                condition=Q(state__in=["draft", "reviewed"]),
                name="one_open_draft_per_moment",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.sku} {self.meter} {self.amount} from {self.valid_from:%Y-%m-%d}"


class Discount(models.Model):
    """Percent off the list price of every sku that fits `pattern` (`hosted:*`), for one team, in force from
    `valid_from` on. Versioned: the latest for a pattern counts, 0 ends it. Of several patterns, the longest counts."""

    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="+")
    pattern = models.CharField(max_length=160, default="*", help_text="A sku, or its beginning and a *.")
    percent = models.DecimalField(max_digits=5, decimal_places=2)
    valid_from = models.DateTimeField()
    reason = models.CharField(max_length=200)
    agreed_by = models.CharField(max_length=254)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["team", "pattern", "-valid_from"]
        constraints = [
            models.CheckConstraint(condition=Q(percent__gte=0, percent__lte=100), name="discount_is_a_percentage"),
        ]

    def __str__(self) -> str:
        return f"{self.team}: {self.percent} % off {self.pattern}"
