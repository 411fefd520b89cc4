"""A month of the ledger as rows and as CSV. One function makes the rows; the page, the CSV and the API all sum them.

Days are the team's. Numbers are exact decimals without exponent. Text that people chose is made safe for
spreadsheets (a leading = + - @ tab or CR gets an apostrophe). RFC 4180: CRLF, quotes where needed.
"""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from django.db.models import CharField, Sum, Value
from django.db.models.functions import TruncDate

from accounts.models import Team
from billing import periods, usage
from billing.meters import METERS

COLUMNS = (
    "date",
    "team",
    "path",
    "model",
    "deployment",
    "api_key",
    "meter",
    "quantity",
    "unit",
    "unit_price",
    "cost",
    "currency",
    "source",
)
RISKY = ("=", "+", "-", "@", "\t", "\r")
CHUNK = 2000


@dataclass(frozen=True, slots=True)
class Row:
    """One day x source x key x meter x unit price. `cost` is exactly the sum of the ledger's rows behind it."""

    day: date
    path: str
    model: str
    deployment: str
    api_key: str
    source: str
    meter: str
    quantity: Decimal
    unit_price: Decimal
    cost: Decimal
    currency: str

    @property
    def unit(self) -> str:
        return METERS[self.meter].unit if self.meter in METERS else ""


def rows(team: Team, month: periods.Month) -> Iterator[Row]:
    """The month's rows in a fixed order, read from the database in chunks."""
    zone = periods.zone_of(team.time_zone)
    found = (
        usage.entries(team, month.begins, month.ends)
        .annotate(day=TruncDate("at", tzinfo=zone), team_slug=Value(team.slug, output_field=CharField()))
        .order_by()
        .values_list(
            "day", "path", "model_name", "deployment_name", "api_key_name", "source", "meter", "unit_price", "currency"
        )
        .annotate(quantity=Sum("quantity"), cost=Sum("amount"))
        .order_by("day", "path", "source", "api_key_name", "meter", "unit_price", "model_name", "deployment_name")
    )
    for day, path, model, deployment, key, source, meter, price, currency, quantity, cost in found.iterator(CHUNK):
        yield Row(day, path, model, deployment, key, source, meter, quantity, price, cost, currency)


def as_csv(team: Team, month: periods.Month) -> Iterator[str]:
    """The plain CSV, line by line; its header never changes its order."""
    writer = csv.writer(_Line(), lineterminator="\r\n")
    yield writer.writerow(COLUMNS)
    for row in rows(team, month):
        yield writer.writerow(_cells(team, row))


def total(found: Iterable[Row]) -> Decimal:
    return sum((row.cost for row in found), Decimal(0))


def exact(number: Decimal) -> str:
    """Every digit, no exponent, no trailing zeros."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def safe(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(RISKY) else text


def _cells(team: Team, row: Row) -> list[str]:
    return [
        row.day.isoformat(),
        safe(team.slug),
        row.path,
        safe(row.model),
        safe(row.deployment),
        safe(row.api_key),
        row.meter,
        exact(row.quantity),
        row.unit,
        exact(row.unit_price),
        exact(row.cost),
        row.currency,
        safe(row.source),
    ]


class _Line:
    """A file that hands back what is written to it."""

    def write(self, line: str) -> Any:
        return line
