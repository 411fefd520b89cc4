"""Libraries of any size, in a few statements: the starter catalog's models, and as many more in their likeness."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from accounts.models import Team
from billing.meters import METERS
from billing.models import Price
from catalog.models import Hardware, Licence, Model, Offer, Provider, Weights
from catalog.starter_catalog import FOLDER

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
GB = 10**9
# More publishers than fit on a page, and tunes that somebody made of a model.
FLAVOURS = ("Instruct", "Thinking", "Coder", "Vision", "Chat", "Math", "Long", "Mini", "Turbo", "Base")


def make(count: int | None = None, *, seen: int = 97) -> list[Model]:
    """`count` models (all of the starter catalog's by default), every `seen`th with weights that can be deployed. Those
    that are there already stay as they are."""
    said = {name: json.loads((FOLDER / f"{name}.json").read_text()) for name in ("licences", "providers", "models")}
    machines = json.loads((FOLDER / "hardware.json").read_text())
    Licence.objects.bulk_create([Licence(**row) for row in said["licences"]], ignore_conflicts=True)
    Provider.objects.bulk_create([Provider(**row) for row in said["providers"]], ignore_conflicts=True)
    prices = [
        _price(f"compute:{row['slug']}", "compute.seconds", row.pop("price_per_second", "0.0009")) for row in machines
    ]
    hardware = Hardware.objects.bulk_create([Hardware(**row) for row in machines], ignore_conflicts=True)
    Team.objects.get_or_create(is_platform=True, defaults={"slug": "platform", "name": "Modelport platform"})
    there = set(Model.objects.values_list("slug", flat=True))
    rows = [row for row in _rows(said["models"], count or len(said["models"])) if row["slug"] not in there]
    models = Model.objects.bulk_create([_model(row) for row in rows], batch_size=1000)
    pairs = list(zip(models, rows, strict=True))
    Offer.objects.bulk_create(
        [
            Offer(model=model, path="hosted", provider_id=row["provider"], upstream_model=row["upstream_model"])
            for model, row in pairs
        ],
        batch_size=1000,
    )
    prices += [
        _price(model.sku, meter, Decimal(amount) / METERS[meter].per)
        for model, row in pairs
        for meter, amount in row["prices"].items()
    ]
    Price.objects.bulk_create(prices, batch_size=2000)
    _weigh([model for model, row in pairs if "weights" in row or _is_nth(model, row, seen)], hardware)
    return models


def _rows(known: list[dict[str, Any]], count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        row = known[number % len(known)]
        turn = number // len(known)
        if not turn:
            yield row
            continue
        flavour = f"{FLAVOURS[turn % len(FLAVOURS)]} {turn}"
        plain = {name: value for name, value in row.items() if name != "weights"}
        yield plain | {
            "slug": f"{row['slug']}-{flavour.lower().replace(' ', '-')}",
            "name": f"{row['name']} {flavour}",
            "publisher": row["publisher"] if turn % 3 else f"Lab {number % 240}",
            "nth": number,
        }


def _model(row: dict[str, Any]) -> Model:
    plain = ("slug", "name", "publisher", "openness", "modalities", "context_tokens", "description", "source")
    return Model(
        **{name: row[name] for name in plain},
        licence_id=row["licence"],
        source_date=date.fromisoformat(row["source_date"]),
    )


def _is_nth(model: Model, row: dict[str, Any], seen: int) -> bool:
    return model.openness == "open-weight" and row.get("nth", 1) % seen == 0


def _weigh(models: list[Model], hardware: list[Hardware]) -> None:
    """Weights of 100 MB and more, offered on what they fit on."""
    weights = Weights.objects.bulk_create(
        Weights(
            model=model, version=1, source="made for this", revision="q4", format="gguf", path="/none", sha256="0" * 64,
            size_bytes=(number % 40 + 1) * GB if number else GB // 10,
        )
        for number, model in enumerate(models)
    )  # fmt: skip
    offers = Offer.objects.bulk_create(
        Offer(model=one.model, path="deployable", weights=one, engine="llama_cpp") for one in weights
    )
    on = Offer.hardware.through
    on.objects.bulk_create(on(offer=offer, hardware=one) for offer in offers for one in hardware)


def _price(sku: str, meter: str, amount: str | Decimal) -> Price:
    return Price(
        sku=sku, meter=meter, amount=Decimal(amount), valid_from=SINCE, source="a list", source_date=SINCE.date()
    )
