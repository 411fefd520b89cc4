"""What can go wrong with money.

BillingError
├── NoPrice             nothing says what this sku costs: refuse before the call
├── UnpricedMeter       a quantity of a meter that has no price: refuse before the call
├── BadQuantity         a negative, endless or too finely divided quantity or price
├── BudgetSpent         the team's monthly cap leaves no room for this call
├── UnknownReservation  a settlement of a call that was never let in
├── BadMonth            a month that is not YYYY-MM
├── NoParquet           pyarrow is not installed here
├── NotYet              a month that can't be closed now, and why
├── BadFile             a provider's file that can't be read, and where
└── DatabaseDown        nothing could be written durably: do not make the call
"""

from decimal import Decimal


class BillingError(Exception):
    """Base of all; its text is written for the person who pays."""


class NoPrice(BillingError):
    def __init__(self, sku: str) -> None:
        super().__init__(f"No price is set for {sku}, so it can't be called.")
        self.sku = sku


class UnpricedMeter(BillingError):
    def __init__(self, meter: str) -> None:
        super().__init__(f"No price is set for {meter}, so it can't be charged.")
        self.meter = meter


class BadQuantity(BillingError):
    """The number can't stand on a bill: not finite, negative, or with more decimals than are kept."""


class BudgetSpent(BillingError):
    def __init__(self, cap: Decimal) -> None:
        super().__init__(
            f"This month's budget of ${cap:,.2f} leaves no room for this call. "
            "Raise the cap on the costs page, or wait for next month."
        )
        self.cap = cap


class UnknownReservation(BillingError):
    """No reservation has this id."""


class BadMonth(BillingError):
    """A month is written YYYY-MM."""


class NoParquet(BillingError):
    def __init__(self) -> None:
        super().__init__(
            "This portal can't write Parquet: pyarrow is not installed. Install the extra `parquet`, "
            "or take format=detail: the same rows as CSV."
        )


class NotYet(BillingError):
    """The month can't be closed now; the text says why, and closing it is tried again later."""


class BadFile(BillingError):
    """The provider's file can't be read; the text says where and why. Nothing of it was kept."""


class DatabaseDown(BillingError):
    """The usage could not be written down; try again soon."""
