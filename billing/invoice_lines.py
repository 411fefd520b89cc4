"""An invoice's lines as they are shown, on the page and on paper alike. Amounts are rounded for the eye; the exact ones
stand beside them (hover, the files)."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from billing import money
from billing.meters import METERS
from billing.models import Invoice

TITLES = {"usage": "Usage", "correction": "Corrections", "credit": "Credits"}


@dataclass(frozen=True, slots=True)
class Shown:
    """One line in words. `exact` is its amount with every digit."""

    path: str
    what: str
    meter: str
    quantity: str
    price: str
    amount: str
    exact: str


def sections(invoice: Invoice) -> list[tuple[str, list[Shown]]]:
    """The lines under their titles, in the invoice's order; titles without lines are left out."""
    found: dict[str, list[Shown]] = {}
    for line in invoice.lines:
        title = TITLES[line["kind"]]
        if line["late"]:
            title = f"{title} of earlier months, recorded after they were closed"
        found.setdefault(title, []).append(_shown(line))
    return list(found.items())


def _shown(line: dict[str, Any]) -> Shown:
    meter = METERS.get(line["meter"])
    label = meter.label if meter else line["meter"]
    price, per = Decimal(line["unit_price"]), meter.per if meter else 1
    quoted = f"{money.dollars(price * per)} / {_per(line['unit'], per)}" if price else "included"
    usage = line["kind"] == "usage"
    return Shown(
        path=line["path"],
        what=(line["deployment"] or line["model"]) if usage else line["reason"],
        meter=label if usage else (line["deployment"] or line["model"]),
        quantity=f"{money.quantity(Decimal(line['quantity']))} {_units(line['unit'])}" if usage else "",
        price=quoted if usage else "",
        amount=money.dollars(Decimal(line["amount"])),
        exact=line["amount"],
    )


def _per(unit: str, per: int) -> str:
    return {1_000_000: "M", 3600: "hour"}.get(per, unit or "1")


def _units(unit: str) -> str:
    return {"token": "tokens", "second": "s", "request": "requests"}.get(unit, unit)
