"""Versioned prices. A price is never edited: a new one with a later valid_from takes its place."""

from django.db import models


class Price(models.Model):
    """The price of ONE unit (one token, one second) of `meter` for `sku`, in force from `valid_from` on."""

    sku = models.CharField(max_length=160)
    meter = models.CharField(max_length=40)
    amount = models.DecimalField(max_digits=24, decimal_places=12, help_text="USD for one unit.")
    currency = models.CharField(max_length=3, default="USD")
    valid_from = models.DateTimeField()
    source = models.CharField(max_length=200, help_text="Where the price was read.")
    source_date = models.DateField(help_text="The day it was read.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["sku", "meter", "-valid_from"]
        constraints = [
            models.UniqueConstraint(fields=["sku", "meter", "valid_from"], name="one_price_per_moment"),
            models.CheckConstraint(condition=models.Q(amount__gte=0), name="price_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.sku} {self.meter} {self.amount} {self.currency}"
