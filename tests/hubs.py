"""A Hub of our own, and a team that imports from it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from accounts.models import Team
from catalog.models import Hardware
from tests.factories.accounts import TeamFactory
from tests.fakes import hub as fake
from tests.fakes.hub import TestHub


@pytest.fixture(scope="session")
def one_hub() -> Iterator[TestHub]:
    with fake.running() as hub:
        yield hub


@pytest.fixture
def hub(one_hub: TestHub, settings: Any) -> TestHub:
    one_hub.reset()
    one_hub.repos.clear()
    settings.HUB_URL = one_hub.url
    return one_hub


@pytest.fixture
def importers(db: None, settings: Any, tmp_path: Path) -> Team:
    """A team with a disk of its own and one small hardware."""
    settings.UPLOADS_DIR, settings.WEIGHTS_DIR = str(tmp_path / "uploads"), str(tmp_path / "weights")
    settings.UPLOADS_KEEP_FREE = 0
    Hardware.objects.create(slug="cpu-small", name="CPU small", memory_gib=4, backend="local")
    return TeamFactory()
