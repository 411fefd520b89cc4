"""What can go wrong with money.

BillingError
├── NoPrice             nothing says what this sku costs: refuse before the call
├── UnpricedMeter       a quantity of a meter that has no price: refuse before the call
├── BadQuantity         a negative, endless or too finely divided quantity or price
├── BudgetSpent         a hard budget leaves no room for this call
├── UnknownReservation  a settlement of a call that was never let in
├── BadMonth            a month that is not YYYY-MM
├── BadRange            a stretch of days that is none
├── TooMuch             a sum over more rows than anybody waits for
├── NoParquet           pyarrow is not installed here
├── NotYet              a month that can't be closed now, and why
├── BadFile             a provider's file that can't be read, and where
├── BadCorrection       a change of the ledger that can't be one
├── BadPrice            a price that can't be entered, or not without a confirmation
├── BadAddress          an address that alerts are not sent to
└── DatabaseDown        nothing could be written durably: do not make the call
"""


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
    """`budget` names it: "This month's budget of $50.00"."""

    def __init__(self, budget: str) -> None:
        super().__init__(
            f"{budget} leaves no room for this call. Raise it on the budgets page, or wait until it begins anew."
        )
        self.budget = budget


class UnknownReservation(BillingError):
    """No reservation has this id."""


class BadMonth(BillingError):
    """A month is written YYYY-MM."""


class BadRange(BillingError):
    """These are no days, or too many; the text says which."""


class TooMuch(BillingError):
    """It would take too long; the text says what to ask for instead."""


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


class BadCorrection(BillingError):
    """What was asked is no correction, or not the one that was drafted; its text says what to do."""


class BadPrice(BillingError):
    """The price can't be entered so; its text says why."""


class BadAddress(BillingError):
    """Nothing is sent there; its text says why."""


class DatabaseDown(BillingError):
    """The usage could not be written down; try again soon."""
