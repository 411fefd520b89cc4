"""A month of a ledger with everything in it: both meters, a correction, a credit, odd names, a change of clocks."""

import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from accounts.models import Team
from billing import metering
from billing.models import CreditGrant, LedgerEntry
from tests.factories.accounts import TeamFactory
from tests.factories.billing import billed

OCTOBER = datetime(2026, 10, 10, 12, tzinfo=UTC)
HARDWARE = {"compute.seconds": Decimal("0.00001"), "compute.starting": Decimal("0.00001")}


def full_october(team: Team | None = None) -> Team:
    """October 2026 in Berlin, where the 25th has 25 hours. `team` is renamed by nobody here."""
    team = team or TeamFactory(slug="berlin", name='=Berlin "GmbH", R&D', time_zone="Europe/Berlin")
    for day in (1, 24, 25, 26, 31):
        for hour in (0, 5, 22):
            moment = datetime(2026, 10, day, hour, 30, tzinfo=UTC)
            billed(team, {"tokens.input": 1_000_000, "tokens.output": 7}, started_at=moment, api_key_name="+laptop")
    billed(team, {"tokens.input": 5}, started_at=datetime(2026, 9, 30, 22, 30, tzinfo=UTC))  # October in Berlin
    billed(team, {"tokens.input": 11}, started_at=datetime(2026, 10, 31, 23, 30, tzinfo=UTC))  # November there
    awake(team, datetime(2026, 10, 25, 0, 59, 30, 250_000, tzinfo=UTC), seconds=150)
    # A deployment whose name a spreadsheet would run, in two lines and with a comma.
    awake(team, OCTOBER, seconds=61, deployment_name='=cmd|" /C calc"!A0,\nx')
    entry(team, "correction", OCTOBER, reason="priced too high, sorry", quantity="-5", unit_price="0.00000002")
    entry(team, "credit", OCTOBER, reason="welcome, credit", quantity="1", unit_price="-0.125", meter="", sku="")
    return team


def awake(team: Team, began: datetime, *, seconds: float, deployment_name: str = "berlin/small") -> None:
    """A replica's uptime, billed by the second."""
    metering.record_compute(
        replica_id=uuid.uuid4(),
        team=team,
        sku="hardware:cpu-small",
        source=deployment_name,
        model_name="SmolLM2",
        deployment_name=deployment_name,
        started_at=began,
        ended_at=began + timedelta(seconds=seconds),
        prices=HARDWARE,
    )


def entry(team: Team, kind: str, at: datetime, *, quantity: str, unit_price: str, **given: Any) -> LedgerEntry:
    """A credit or a correction, as a row of the ledger."""
    number, price = Decimal(quantity), Decimal(unit_price)
    fields: dict[str, Any] = {
        "path": "hosted",
        "sku": "hosted:smollm2-135m-instruct",
        "source": "smollm2-135m-instruct",
        "model_name": "SmolLM2-135M-Instruct",
        "meter": "tokens.input",
    }
    if kind == "credit":
        fields |= {"path": "", "source": "", "model_name": ""}
        fields["credit_id"] = _grant(team)
    else:
        fields["corrects_id"] = LedgerEntry.objects.filter(team=team, kind="usage").order_by("id")[0].pk
    return LedgerEntry.objects.create(
        team=team, kind=kind, at=at, quantity=number, unit_price=price, amount=number * price, **(fields | given)
    )


def _grant(team: Team) -> int:
    granted = CreditGrant.objects.create(team=team, name="welcome", usd=5, starts_at=OCTOBER, granted_by="a test")
    return granted.pk
