"""How fast weights really are on hardware: figures that somebody measured here, with all that they hold for."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import UUID

from django.db.models import Q

from accounts.models import Team
from catalog.models import Hardware, Measurement, Model, Weights


@dataclass(frozen=True, slots=True)
class Figures:
    """For so many callers at once, of one clock. Rates are tokens a second of all callers together; `first_token_ms`
    is the median of what one waits. `prefill_tokens_per_s` None: they had to queue, so it says nothing."""

    callers: int
    samples: int
    prompt_tokens: int
    output_tokens: int
    first_token_ms: float
    prefill_tokens_per_s: float | None
    decode_tokens_per_s: float


@dataclass(frozen=True, slots=True)
class Measured:
    """One measuring, one row for each number of callers."""

    rows: tuple[Measurement, ...]

    @property
    def first(self) -> Measurement:
        return self.rows[0]

    @property
    def disturbed(self) -> bool:
        return any(row.disturbed for row in self.rows)


def record(
    figures: Figures,
    *,
    run: UUID,
    model: Model,
    weights: Weights,
    hardware: Hardware,
    engine: str,
    engine_version: str,
    options: dict[str, Any],
    disturbed: bool,
    measured_at: datetime,
) -> Measurement:
    """Keep it; the same run's figures for as many callers are replaced."""
    fields = asdict(figures)
    callers = fields.pop("callers")
    fields |= {
        "model": model, "weights": weights, "hardware": hardware, "engine": engine, "engine_version": engine_version,
        "options": options, "disturbed": disturbed, "measured_at": measured_at,
    }  # fmt: skip
    return Measurement.objects.update_or_create(run=run, callers=callers, defaults=fields)[0]


def of_model(model: Model, *, team: Team) -> list[Measured]:
    """The newest measuring of each of its weights on each hardware; another team's own weights are not shown."""
    visible = Q(weights__team=None) | Q(weights__team=team)
    rows = Measurement.objects.filter(visible, model=model).select_related("weights", "hardware")
    rows = rows.order_by("-measured_at")
    newest: dict[tuple[object, str], UUID] = {}
    found = list(rows[:500])
    for row in found:
        newest.setdefault((row.weights_id, row.hardware_id), row.run)
    runs = list(newest.values())
    return grouped([row for row in found if row.run in runs])


def of_runs(runs: Iterable[UUID]) -> dict[UUID, Measured]:
    rows = Measurement.objects.filter(run__in=list(runs)).select_related("weights", "hardware")
    return {one.first.run: one for one in grouped(list(rows))}


def rate(*, weights: Weights, hardware: Hardware, callers: int = 4) -> Measurement | None:
    """What the advisor reckons with: the newest for about so many callers that no other calls disturbed; None:
    not measured."""
    rows = Measurement.objects.filter(weights=weights, hardware=hardware, disturbed=False, callers__lte=callers)
    return rows.order_by("-callers", "-measured_at").first()


def rates(weights: Weights, *, callers: int = 4) -> dict[str, Measurement]:
    """The same for each hardware that has one, by its slug, with one question."""
    rows = Measurement.objects.filter(weights=weights, disturbed=False, callers__lte=callers)
    best = rows.order_by("hardware_id", "-callers", "-measured_at").distinct("hardware_id")
    return {row.hardware_id: row for row in best}


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast weights are on a hardware with `row.callers` at once: tokens a second of all of them together. `reads`
    is that of fewer callers where so many had to queue; without any, by what one waited for its first token."""

    row: Measurement
    reads: float

    @property
    def writes(self) -> float:
        return self.row.decode_tokens_per_s


def paces(weights: Weights, *, callers: int = 4) -> dict[str, Pace]:
    """For each hardware that was measured, by its slug: the newest for about so many callers, with one question."""
    rows = Measurement.objects.filter(weights=weights, disturbed=False, callers__lte=callers)
    newest = rows.order_by("hardware_id", "-callers", "-measured_at").distinct("hardware_id", "callers")
    found: dict[str, list[Measurement]] = {}
    for row in newest:
        found.setdefault(row.hardware_id, []).append(row)
    return {slug: _pace(of_it) for slug, of_it in found.items()}


def _pace(rows: list[Measurement]) -> Pace:
    """The most callers first."""
    read = next((row.prefill_tokens_per_s for row in rows if row.prefill_tokens_per_s), None)
    fewest = rows[-1]
    return Pace(rows[0], read or fewest.prompt_tokens / max(fewest.first_token_ms, 1) * 1000)


def grouped(rows: list[Measurement]) -> list[Measured]:
    ordered = sorted(rows, key=lambda row: (str(row.run), row.callers))
    groups = [Measured(tuple(group)) for _, group in groupby(ordered, key=lambda row: row.run)]
    return sorted(groups, key=lambda one: one.first.measured_at, reverse=True)
