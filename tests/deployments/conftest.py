"""Fixtures for deployments."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deployments.portals import Portal, portal


@pytest.fixture
def small_portal(settings: Any, tmp_path: Path) -> Iterator[Portal]:
    """Deployments whose engines are small processes, quickly started."""
    with portal(settings, tmp_path / "engines", backend="tests.deployments.small_backend.SmallBackend") as found:
        yield found
