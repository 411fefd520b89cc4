"""Two worlds, made once for each test that needs them."""

from pathlib import Path

import pytest

from tests.security.world import TeamWorld, team_world


@pytest.fixture
def ours(db: None, tmp_path: Path) -> TeamWorld:
    return team_world("ours", tmp_path)


@pytest.fixture
def theirs(db: None, tmp_path: Path) -> TeamWorld:
    return team_world("theirs", tmp_path)
