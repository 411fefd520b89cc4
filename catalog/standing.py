"""What runs of a model in a team: asked of the app above that knows, which settings.LIBRARY_STANDING names."""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from uuid import UUID

from django.conf import settings

from accounts.models import Team


@dataclass(frozen=True, slots=True)
class Standing:
    """How many deployments of one model."""

    awake: int = 0
    moving: int = 0
    asleep: int = 0
    failed: int = 0

    def __add__(self, other: "Standing") -> "Standing":
        return Standing(
            self.awake + other.awake, self.moving + other.moving, self.asleep + other.asleep, self.failed + other.failed
        )


@dataclass(frozen=True, slots=True)
class Running:
    """One deployment. `endpoint_model` is what a caller writes as `model`."""

    pk: UUID
    name: str
    endpoint_model: str
    status: str
    hardware: str
    created_by: str


def at_a_glance(team: Team, model_ids: Iterable[UUID]) -> dict[UUID, Standing]:
    found: dict[UUID, Standing] = _asked().at_a_glance(team, model_ids)
    return found


def running(team: Team, model_id: UUID) -> list[Running]:
    found: list[Running] = _asked().running(team, model_id)
    return found


def _asked() -> Any:
    return import_module(settings.LIBRARY_STANDING)
