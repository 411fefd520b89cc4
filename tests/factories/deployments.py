"""A model that can really run here: SmolLM2's file, the cpu-small hardware, their prices."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings

from accounts.models import Team
from billing import pricing
from catalog import offers
from catalog.models import Hardware, Licence, Model, Offer, Weights


def smollm2() -> tuple[Model, Hardware]:
    """The model with a deployable offer on `cpu-small`, priced at $0.00001 a second."""
    path = settings.SMOLLM2_GGUF
    licence, _ = Licence.objects.get_or_create(
        slug="apache-2-0", defaults={"name": "Apache-2.0", "commercial_use": True}
    )
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


def own_weights(team: Team, folder: Path, files: Mapping[str, bytes], *, base: Weights | None = None) -> Weights:
    """Weights of the team with these files in that folder, deployable; on a base they are an adapter."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    kind = "gguf" if any(name.endswith(".gguf") for name in files) else "safetensors"
    holder = next(name for name in files if name.endswith(f".{kind}"))
    licence, _ = Licence.objects.get_or_create(
        slug="apache-2-0", defaults={"name": "Apache-2.0", "commercial_use": True}
    )
    model = Model.objects.create(
        slug=f"{team.slug}.{folder.name}", name=folder.name, publisher=team.name, team=team, openness="own-weights",
        licence=licence, source="test", source_date=date(2026, 11, 1),
    )  # fmt: skip
    path = folder if kind == "safetensors" and base is None else folder / holder
    weights = Weights.objects.create(
        team=team, model=model, revision="v1", format=kind, path=str(path), base=base, source="test", sha256="-",
        kind=Weights.Kind.ADAPTER if base else Weights.Kind.FULL, size_bytes=sum(map(len, files.values())),
    )  # fmt: skip
    for name, content in files.items():
        weights.files.create(name=name, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    offers.offer(weights)
    return weights


def hardware(slug: str, **given: Any) -> Hardware:
    """With a price of $0.001 a second, on the local backend unless told."""
    fields = {"name": slug, "memory_gib": 80, "gpus": 1, "backend": "local"} | given
    row = Hardware.objects.create(slug=slug, **fields)
    pricing.set_price(
        row.sku, meter="compute.seconds", amount=Decimal("0.001"), valid_from=datetime(2026, 1, 1, tzinfo=UTC),
        source="test", source_date=date(2026, 1, 1),
    )  # fmt: skip
    return row
