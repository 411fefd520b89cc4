"""Fill an empty database for benchmarks/gateway.py: a team with every check on, a model at a mock. Prints the key.

python benchmarks/gateway_setup.py http://127.0.0.1:PORT/v1
"""

import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import django

django.setup()

from django.core.management import call_command

from accounts import keys, sealing
from accounts.models import Team
from billing import pricing
from billing.models import Budget
from catalog.models import Licence, Model, Offer, Provider
from gateway.models import Limits

PRICES = {"tokens.input": "0.000005", "tokens.input.cached": "0.0000005", "tokens.output": "0.000025"}
PLENTY = 100_000_000


def main() -> None:
    call_command("migrate", verbosity=0)
    team = Team.objects.create(slug="bench", name="Bench")
    row, key = keys.issue(team, name="bench")
    Budget.objects.create(team=team, usd=Decimal("1000000"))
    Budget.objects.create(team=team, scope="key", subject=str(row.pk), usd=Decimal("1000000"))
    for limited in (None, row):
        Limits.objects.create(
            team=team, api_key=limited, requests_per_minute=PLENTY, tokens_per_minute=PLENTY, concurrency=10_000
        )
    licence = Licence.objects.create(slug="terms", name="Terms")
    provider = Provider.objects.create(
        slug="mock", name="Mock", base_url=sys.argv[1], sealed_key=sealing.seal("sk-mock")
    )
    model = Model.objects.create(
        slug="mock", name="Mock", publisher="Mock", openness="closed", licence=licence, source="benchmark",
        source_date=date(2026, 1, 1),
    )  # fmt: skip
    Offer.objects.create(model=model, path="hosted", provider=provider, upstream_model="mock")
    for meter, amount in PRICES.items():
        pricing.set_price(
            model.sku, meter=meter, amount=Decimal(amount), valid_from=datetime(2026, 1, 1, tzinfo=UTC),
            source="benchmark", source_date=date(2026, 1, 1),
        )  # fmt: skip
    print(key)


if __name__ == "__main__":
    main()
