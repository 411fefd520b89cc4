"""The starter catalog, as a portal loads it."""

import pytest

from catalog import starter_catalog
from catalog.models import Hardware, Model


def load_starter() -> int:
    """All of it, SmolLM2's weights too."""
    return starter_catalog.load()


def model(slug: str) -> Model:
    found = Model.objects.filter(slug=slug).first()
    return found or pytest.fail(f"the starter catalog has no {slug}")


def hardware(slug: str) -> Hardware:
    return Hardware.objects.get(slug=slug)
