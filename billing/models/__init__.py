"""Billing's tables. It knows no product: its subjects are strings (sku, meter, source) with names copied on the row."""

from billing.models.budgets import Budget, KeyBudget, KeySpend, Spend
from billing.models.invoices import Invoice, InvoiceMail, ProviderImport, ProviderUsage, StatementMail
from billing.models.ledger import LedgerEntry
from billing.models.prices import Price
from billing.models.usage import Reservation, UsageEvent

__all__ = [
    "Budget",
    "Invoice",
    "InvoiceMail",
    "KeyBudget",
    "KeySpend",
    "LedgerEntry",
    "Price",
    "ProviderImport",
    "ProviderUsage",
    "Reservation",
    "Spend",
    "StatementMail",
    "UsageEvent",
]
