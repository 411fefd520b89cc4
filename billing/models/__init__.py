"""Billing's tables. It knows no product: its subjects are strings (sku, meter, source) with names copied on the row."""

from billing.models.budgets import AlertSettings, Budget, BudgetAlert, Counter, Delivery, Spend
from billing.models.invoices import (
    Invoice,
    InvoiceMail,
    ProviderImport,
    ProviderUsage,
    StatementHead,
    StatementMail,
    UnclosedMonth,
)
from billing.models.ledger import ChainSeal, CreditGrant, LedgerEntry, RerateSum, Rerating, SealRun
from billing.models.prices import Discount, Price, PriceDraft
from billing.models.rollups import (
    RollupDay,
    RollupLate,
    RollupMark,
    RollupQuarter,
    RollupSubject,
    RollupZone,
)
from billing.models.usage import Reservation, UsageEvent

__all__ = [
    "AlertSettings",
    "Budget",
    "BudgetAlert",
    "ChainSeal",
    "Counter",
    "CreditGrant",
    "Delivery",
    "Discount",
    "Invoice",
    "InvoiceMail",
    "LedgerEntry",
    "Price",
    "PriceDraft",
    "ProviderImport",
    "ProviderUsage",
    "RerateSum",
    "Rerating",
    "Reservation",
    "RollupDay",
    "RollupLate",
    "RollupMark",
    "RollupQuarter",
    "RollupSubject",
    "RollupZone",
    "SealRun",
    "Spend",
    "StatementHead",
    "StatementMail",
    "UnclosedMonth",
    "UsageEvent",
]
