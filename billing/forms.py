"""What people fill in about money."""

from decimal import Decimal

from django import forms


class BudgetForm(forms.Form):
    monthly_usd = forms.DecimalField(
        label="Monthly budget in USD",
        required=False,
        min_value=Decimal("0.01"),
        max_digits=14,
        decimal_places=2,
        help_text="A hard cap over tokens and compute: calls past it are refused. Empty: no cap.",
    )
