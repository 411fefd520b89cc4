"""Load catalog/starter/*.json into the library. Twice changes nothing; entered rows are never removed."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.db import transaction

from accounts.models import Team
from billing import pricing
from billing.meters import COMPUTE_SECONDS, METERS
from catalog import versions
from catalog.errors import BadStarter
from catalog.models import Hardware, Licence, Model, Offer, Provider, Weights

FOLDER = Path(__file__).with_name("starter")
HARDWARE_PRICED_ON = date(2026, 11, 1)
LOADED = "starter-catalog-loaded"


def load() -> int:
    """The number of models of the starter catalog. Does nothing if just these files were loaded before."""
    files = {name: (FOLDER / f"{name}.json").read_text() for name in ("licences", "providers", "hardware", "models")}
    rows = {name: json.loads(text) for name, text in files.items()}
    digest = hashlib.sha256("".join([*files.values(), settings.SMOLLM2_GGUF]).encode()).hexdigest()
    models = rows["models"]
    if cache.get(LOADED) == digest and Model.objects.count() >= len(models):
        return len(models)
    with transaction.atomic():
        Team.objects.get_or_create(is_platform=True, defaults={"slug": "platform", "name": "Modelport platform"})
        _load_small_tables(rows)
        for row in models:
            _load_model(row)
    cache.set(LOADED, digest, timeout=None)
    return len(models)


def _load_small_tables(rows: Mapping[str, Any]) -> None:
    for row in rows["licences"]:
        Licence.objects.update_or_create(slug=row["slug"], defaults=row)
    for row in rows["providers"]:
        Provider.objects.get_or_create(slug=row["slug"], defaults=row)
    for row in rows["hardware"]:
        price = row.pop("price_per_second", None)
        hardware, _ = Hardware.objects.get_or_create(slug=row["slug"], defaults=row)
        if price:
            _set_once(
                hardware.sku, COMPUTE_SECONDS.name, Decimal(price), "set by this portal's operator", HARDWARE_PRICED_ON
            )


def _load_model(row: Mapping[str, Any]) -> None:
    read_on = date.fromisoformat(row["source_date"])
    plain = ("name", "publisher", "openness", "modalities", "context_tokens", "description", "source")
    model, _ = Model.objects.update_or_create(
        slug=row["slug"],
        defaults={name: row[name] for name in plain}
        | {"licence_id": row["licence"], "source_date": read_on, "homepage": row.get("homepage", "")},
    )
    Offer.objects.update_or_create(
        model=model,
        path=Offer.Path.HOSTED,
        defaults={
            "provider_id": row["provider"],
            "upstream_model": row["upstream_model"],
            "note": row.get("price_note", ""),
        },
    )
    for meter, amount in row["prices"].items():
        _set_once(model.sku, meter, Decimal(amount) / METERS[meter].per, row["source"], read_on)
    if "weights" in row and settings.SMOLLM2_GGUF:
        _load_weights(model, row["weights"])


def _load_weights(model: Model, row: Mapping[str, Any]) -> None:
    path = Path(settings.SMOLLM2_GGUF)
    if not path.exists() or path.stat().st_size != row["size_bytes"]:
        raise BadStarter(f"{path} is not the file that the catalog pins; remove .venv and start scripts/up again")
    weights, _ = Weights.objects.update_or_create(
        model=model,
        revision=row["revision"],
        source_kind=Weights.SourceKind.STARTER,
        defaults={
            "version": versions.number_for(model, row["revision"]),
            "format": row["format"],
            "path": str(path),
            "sha256": row["sha256"],
            "size_bytes": row["size_bytes"],
            "source": row["source"],
        },
    )
    offer, _ = Offer.objects.update_or_create(
        model=model, path=Offer.Path.DEPLOYABLE, defaults={"weights": weights, "engine": row["engine"]}
    )
    offer.hardware.set(Hardware.objects.filter(slug__in=row["hardware"]))


def _set_once(sku: str, meter: str, amount: Decimal, source: str, read_on: date) -> None:
    pricing.set_price(
        sku,
        meter=meter,
        amount=amount,
        valid_from=datetime.combine(read_on, time.min, UTC),
        source=source,
        source_date=read_on,
    )
