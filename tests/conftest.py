"""Fixtures for all tests."""

import shutil
from collections.abc import Iterator
from uuid import uuid4

import pytest
from django.core.cache import cache

pytest_plugins = ["tests.append_only", "tests.hubs", "tests.running", "tests.scheduling"]

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """A Chromium of this machine's packages; the test is skipped, visibly, where there is none."""
    found = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if found is None:
        pytest.skip("no Chromium on PATH: install it (Debian: apt-get install chromium) to run the browser tests")
    return found


@pytest.fixture(autouse=True)
def own_cache_keys() -> Iterator[None]:
    """Tests that run at the same time share one Redis: each has a prefix of its own in the cache."""
    before = cache.key_prefix
    cache.key_prefix = uuid4().hex
    yield
    cache.key_prefix = before
