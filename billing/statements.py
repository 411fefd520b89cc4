"""A month of the ledger as rows and as files. One function makes the rows; the page, the plain CSV and the invoice all
sum them.

Days are the team's, and its time zone is named on each row. Numbers are exact decimals without exponent. Text that
people chose is made safe for spreadsheets (a leading = + - @ tab or CR gets an apostrophe). RFC 4180: CRLF, quotes
where needed, the header's order fixed. Which rows stand on a statement is billing.scope's to say.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import chain
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db.models import Count, DateTimeField, F, Func, IntegerField, Q, QuerySet, Sum, Value
from django.db.models.functions import Greatest

from accounts import csv_rows
from accounts.models import Team
from billing import coverage, detail, focus, parquet, periods, scope
from billing.copying import safe
from billing.meters import METERS
from billing.models.usage import Quality
from billing.scope import Day, Scope

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
    "kind",
    "reason",
    "time_zone",
    "measured_percent",
)
CHUNK = 2000


@dataclass(frozen=True, slots=True)
class Row:
    """One day x source x key x meter x unit price x kind. `cost` is exactly the sum of the ledger's rows behind it: so
    many `entries`, of which `estimated` are of events that were not measured."""

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
    kind: str = "usage"
    reason: str = ""
    entries: int = 0
    estimated: int = 0

    @property
    def measured_percent(self) -> str:
        """Of usage."""
        return exact(coverage.percent_of(self.entries, self.estimated)) if self.kind == "usage" else ""

    @property
    def unit(self) -> str:
        return METERS[self.meter].unit if self.meter in METERS else ""


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file: how it is written, its media type and its name's end."""

    name: str
    write: Callable[[Scope], Iterator[bytes]]
    media_type: str = "text/csv; charset=utf-8"
    ending: str = "csv"


def rows(team: Team, month: periods.Month) -> Iterator[Row]:
    """The month's rows in a fixed order, read from the database in chunks."""
    return rows_of(scope.of(team, month))


NAMES = ("path", "model_name", "deployment_name", "api_key_name", "source", "meter", "unit_price", "currency")
BY_DAY = ("number", *NAMES, "kind", "reason")


def grouped(found: Scope, days: list[Day]) -> "QuerySet[Any, Any]":
    """What a row of the plain file is made of: BY_DAY (`number`: the place of its day in `days`, from 1), the sum of
    the quantities, the sum of the amounts, and how many rows of the ledger those are."""
    begins = Value([moment for _, moment in days], output_field=ArrayField(DateTimeField()))
    bucket = Func(F("at"), begins, function="width_bucket", output_field=IntegerField())
    number = Greatest(bucket, Value(1))
    return summed(found.entries.annotate(number=number), BY_DAY)


def summed(entries: "QuerySet[Any, Any]", by: Sequence[str]) -> "QuerySet[Any, Any]":
    """Rows of a statement, put together by these columns: what the plain file and an invoice's lines are both made of.
    Behind the columns: the sum of the quantities, the sum of the amounts, and how many rows of the ledger those are."""
    rows = entries.order_by().values_list(*by)
    return rows.annotate(total_quantity=Sum("quantity"), cost=Sum("amount"), entries=Count("*"))


def rows_of(found: Scope) -> Iterator[Row]:
    days = found.days()
    counted = grouped(found, days).annotate(estimated=Count("pk", filter=Q(quality=Quality.ESTIMATED)))
    ordered = counted.order_by(
        "number", "path", "source", "api_key_name", "meter", "unit_price", *NAMES, "kind", "reason"
    )
    for (
        place,
        path,
        model,
        deployment,
        key,
        source,
        meter,
        price,
        currency,
        kind,
        reason,
        quantity,
        cost,
        entries,
        estimated,
    ) in ordered.iterator(CHUNK):
        day = days[place - 1][0]
        yield Row(
            day, path, model, deployment, key, source, meter, quantity, price, cost, currency, kind, reason, entries,
            estimated,
        )  # fmt: skip


def as_csv(found: Scope) -> Iterator[bytes]:
    """The plain CSV in pieces; its header never changes its order."""
    cells = (_cells(found, row) for row in rows_of(found))
    return csv_rows.pieces(chain([COLUMNS], cells), size=CHUNK)


FORMATS = {
    found.name: found
    for found in (
        Format("plain", as_csv),
        Format("detail", detail.as_csv),
        Format("focus", focus.as_csv),
        Format("parquet", parquet.as_parquet, "application/vnd.apache.parquet", "parquet"),
    )
}


def total(found: Iterable[Row]) -> Decimal:
    return sum((row.cost for row in found), Decimal(0))


def exact(number: Decimal) -> str:
    """Every digit, no exponent, no trailing zeros."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _cells(found: Scope, row: Row) -> list[str]:
    return [
        row.day.isoformat(),
        safe(found.team_slug),
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
        row.kind,
        safe(row.reason),
        found.zone,
        row.measured_percent,
    ]
