"""Calls, prices and ledgers for tests."""

import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from accounts.models import Team
from billing import metering, pricing
from billing.models import Budget
from billing.posting import Call, Receipt, Settlement

NOVEMBER = datetime(2026, 11, 10, 12, tzinfo=UTC)
PRICES = {"tokens.input": Decimal("0.00000002"), "tokens.output": Decimal("0.00000004")}


def call(team: Team, **given: Any) -> Call:
    """A hosted call of 100 tokens in and at most 50 out, begun at noon of 10 November 2026."""
    fields: dict[str, Any] = {
        "id": uuid.uuid4(),
        "team_id": team.pk,
        "time_zone": team.time_zone,
        "path": "hosted",
        "sku": "hosted:smollm2-135m-instruct",
        "source": "smollm2-135m-instruct",
        "model_name": "SmolLM2-135M-Instruct",
        "api_key_name": "laptop",
        "prices": PRICES,
        "estimate": {"tokens.input": Decimal(100), "tokens.output": Decimal(50)},
        "most": {"tokens.input": Decimal(100), "tokens.output": Decimal(50)},
        "started_at": NOVEMBER,
    }
    return Call(**(fields | given))


def settlement(reservation: Call, quantities: Mapping[str, int | Decimal] | None = None, **given: Any) -> Settlement:
    """What that call used: 100 in and 20 out unless told."""
    used = quantities if quantities is not None else {"tokens.input": 100, "tokens.output": 20}
    fields: dict[str, Any] = {
        "id": reservation.id,
        "quantities": {meter: Decimal(number) for meter, number in used.items()},
        "raw_usage": {"prompt_tokens": 100, "completion_tokens": 20},
        "ended_at": reservation.started_at,
    }
    return Settlement(**(fields | given))


def billed(team: Team, quantities: Mapping[str, int | Decimal] | None = None, **given: Any) -> Receipt:
    """A call that was made and billed."""
    reservation = call(team, **given)
    metering.reserve(reservation)
    return metering.settle(settlement(reservation, quantities))


def budget(team: Team, usd: str) -> Budget:
    return Budget.objects.update_or_create(team=team, scope="team", period="monthly", defaults={"usd": Decimal(usd)})[0]


def priced(sku: str, **amounts: str) -> None:
    """`priced("hosted:x", tokens_input="0.000001")`: in force since 2020."""
    for meter, amount in amounts.items():
        pricing.set_price(
            sku,
            meter=meter.replace("_", "."),
            amount=Decimal(amount),
            valid_from=datetime(2020, 1, 1, tzinfo=UTC),
            source="a test",
            source_date=date(2020, 1, 1),
        )
