"""Fixtures for all tests."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from django.core.cache import cache

pytest_plugins = [
    "tests.append_only",
    "tests.browsing",
    "tests.hubs",
    "tests.one_template",
    "tests.running",
    "tests.scheduling",
]


@pytest.fixture(autouse=True)
def own_cache_keys() -> Iterator[None]:
    """Tests that run at the same time share one Redis: each has a prefix of its own in the cache."""
    before = cache.key_prefix
    cache.key_prefix = uuid4().hex
    yield
    cache.key_prefix = before
