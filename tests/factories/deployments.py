"""A model that can really run here: SmolLM2's file, the cpu-small hardware, their prices."""

import hashlib
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path

from django.conf import settings

from billing import pricing
from catalog.models import Hardware, Licence, Model, Offer, Weights


def smollm2() -> tuple[Model, Hardware]:
    """The model with a deployable offer on `cpu-small`, priced at $0.00001 a second."""
    path = settings.SMOLLM2_GGUF
    licence, _ = Licence.objects.get_or_create(slug="apache-2-0", defaults={"name": "Apache-2.0"})
    model, made = Model.objects.get_or_create(
        slug="smollm2-135m-instruct",
        defaults={
            "name": "SmolLM2 135M Instruct",
            "publisher": "Hugging Face",
            "openness": "open-weight",
            "licence": licence,
            "source": "test",
            "source_date": date(2026, 11, 1),
        },
    )
    hardware, _ = Hardware.objects.get_or_create(
        slug="cpu-small", defaults={"name": "CPU small", "memory_gib": 4, "backend": "local"}
    )
    if made:
        weights = Weights.objects.create(
            model=model,
            revision="q4_1",
            format="gguf",
            path=path,
            sha256=digest_of(path),
            size_bytes=Path(path).stat().st_size,
            source="test",
        )
        offer = Offer.objects.create(model=model, path="deployable", weights=weights, engine="llama_cpp")
        offer.hardware.add(hardware)
    pricing.set_price(
        hardware.sku,
        meter="compute.seconds",
        amount=Decimal("0.00001"),
        valid_from=datetime(2026, 1, 1, tzinfo=UTC),
        source="test",
        source_date=date(2026, 1, 1),
    )
    return model, hardware


@cache
def digest_of(path: str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
