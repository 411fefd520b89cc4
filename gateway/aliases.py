"""What stands behind a team's own name: an order of targets, picked by weight, and shadows beside them."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.models import Prefetch

from gateway.models import Alias, AliasTarget


@dataclass(frozen=True, slots=True)
class Weighted:
    model: str
    weight: int


@dataclass(frozen=True, slots=True)
class Shadow:
    model: str
    percent: int


@dataclass(frozen=True, slots=True)
class Route:
    """Groups of targets: within one the traffic is shared by weight, the next one is what to fall back to."""

    groups: tuple[tuple[Weighted, ...], ...]
    alias: str = ""
    team_id: UUID | None = None
    shadows: tuple[Shadow, ...] = ()
    hold_s: int | None = None
    spills: bool = False
    spill_cap_usd: Decimal | None = field(default=None)

    @classmethod
    def of(cls, model: str) -> "Route":
        return cls(((Weighted(model, 1),),))

    def order(self, chance: random.Random = random.SystemRandom()) -> list[str]:  # noqa: B008 - stateless
        """The models to try, the likelier ones of each group first; those of weight 0 only when nothing else is."""
        if len(self.groups) == 1 and len(self.groups[0]) == 1:
            return [self.groups[0][0].model]
        return [model for group in self.groups for model in _shuffled(group, chance)]

    def shadowed(self, chance: random.Random = random.SystemRandom()) -> list[str]:  # noqa: B008 - stateless
        return [shadow.model for shadow in self.shadows if chance.random() * 100 < shadow.percent]


def routes() -> dict[str, Route]:
    """Every alias by its full name, in two queries. One without a target that serves is absent."""
    targets = Prefetch("targets", AliasTarget.objects.order_by("position", "pk"))
    rows = Alias.objects.select_related("team").prefetch_related(targets)
    return {str(row): route for row in rows if (route := _route(row)).groups}


def described(row: Alias) -> dict[str, Any]:
    """For the audit trail."""
    rows = row.targets.order_by("position", "pk")
    return {
        "name": row.name,
        "targets": [_in_words(one) for one in rows],
        "waits at most (s)": row.hold_s,
        "spills": row.spills,
        "spills up to (USD)": None if row.spill_cap_usd is None else f"{row.spill_cap_usd.normalize():f}",
    }


def _in_words(target: AliasTarget) -> str:
    if target.shadow_percent:
        return f"{target.model} (shadow of {target.shadow_percent} %)"
    return f"{target.model} (position {target.position}, weight {target.weight})"


def _route(row: Alias) -> Route:
    groups: dict[int, list[Weighted]] = {}
    shadows = []
    for target in row.targets.all():
        if target.shadow_percent:
            shadows.append(Shadow(target.model, target.shadow_percent))
        else:
            groups.setdefault(target.position, []).append(Weighted(target.model, target.weight))
    return Route(
        groups=tuple(tuple(group) for _, group in sorted(groups.items())),
        alias=str(row),
        team_id=row.team_id,
        shadows=tuple(shadows),
        hold_s=row.hold_s,
        spills=row.spills,
        spill_cap_usd=row.spill_cap_usd,
    )


def _shuffled(group: Sequence[Weighted], chance: random.Random) -> list[str]:
    """Weighted sampling without replacement (Efraimidis and Spirakis, 2006)."""
    keyed = [(chance.random() ** (1 / one.weight) if one.weight else -1.0, one.model) for one in group]
    return [model for _, model in sorted(keyed, key=lambda pair: -pair[0])]
