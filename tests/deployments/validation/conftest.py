"""Fixtures for validations: a gateway on a real socket, prompt sets, and a worker that can be asked to go."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from accounts.models import Team
from deployments.models import PromptSet
from deployments.validation import wishes
from tests.gateway.conftest import serving

MakeSet = Callable[..., PromptSet]


@pytest.fixture
def endpoint(settings: Any) -> Iterator[str]:
    """The portal's own /v1, where workers look for it."""
    with serving() as url:
        settings.GATEWAY_URL = url
        settings.GATEWAY_HOLD_S = 30
        yield url


@pytest.fixture
def make_set() -> MakeSet:
    """`make_set(team, contains("hello"), ...)`: a case for each list of checks."""

    def make(team: Team, *cases: list[dict[str, Any]], name: str = "smoke") -> PromptSet:
        raw = [{"prompt": f"Say hello {place}.", "checks": checks} for place, checks in enumerate(cases)]
        return wishes.save_set(team, name=name, note="", raw_cases=raw, actor="test")

    return make


def contains(text: str) -> list[dict[str, Any]]:
    return [{"kind": "contains", "value": text}]
