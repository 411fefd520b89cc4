"""The starter catalog, as a portal loads it."""

import pytest

from catalog import starter_catalog
from catalog.models import Hardware, Licence, Model


def load_starter() -> int:
    """All of it, SmolLM2's weights too."""
    return starter_catalog.load()


def model(slug: str) -> Model:
    found = Model.objects.filter(slug=slug).first()
    return found or pytest.fail(f"the starter catalog has no {slug}")


def hardware(slug: str) -> Hardware:
    return Hardware.objects.get(slug=slug)


def mit() -> dict[str, str]:
    """The card of a repository that may be used for anything: the portal knows that licence from now on."""
    Licence.objects.get_or_create(slug="mit", defaults={"spdx_id": "MIT", "name": "MIT", "commercial_use": True})
    return {"license": "mit"}
