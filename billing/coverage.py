"""How much of what a report shows was measured: percent of its usage events that are not estimated.

An event is a call or a slice of compute that began in the report's days; what came late for an earlier month is the
business of that one. Of a closed month it is what its invoice says, for ever.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from billing import sources
from billing.costs import Standing
from billing.models import UsageEvent
from billing.models.usage import Quality
from billing.scope import Scope
from billing.sources import NO_GRID, Asked, Mark, Part


@dataclass(frozen=True, slots=True)
class Coverage:
    events: int
    estimated: int

    @property
    def percent(self) -> Decimal:
        """Rounded down to a tenth: only all of them are 100, and so are none."""
        return percent_of(self.events, self.estimated)

    @property
    def words(self) -> str:
        return f"{self.percent} % of {self.events:,} usage events are measured, {self.estimated:,} are estimated."


def percent_of(events: int, estimated: int) -> Decimal:
    if not events:
        return Decimal(100)
    return Decimal((events - estimated) * 1000 // events) / 10


def of(found: Scope) -> Coverage:
    """Of a statement."""
    if found.closed:
        return Coverage(found.events, found.estimated)
    parts = [Part((found.team_id,), found.zone, found.begins, found.ends)]
    events = events_of(parts, {})
    rows = UsageEvent.objects.filter(team=found.team_id, started_at__gte=found.begins, started_at__lt=found.ends)
    estimated = rows.filter(quality=Quality.ESTIMATED).count()
    return Coverage(events, min(estimated, events))  # one that came between the two looks


def of_page(standing: Standing, *, estimated: int) -> Coverage | None:
    """Of what a question is about, with so many events that are estimated. None for a single meter: an event has
    several."""
    question, scopes = standing.question, standing.scopes
    if question.where.meter is not None:
        return None
    if scopes and not question.filtered and all(one.closed for one in scopes):
        return Coverage(sum(one.events for one in scopes), sum(one.estimated for one in scopes))
    ids = tuple(team.pk for team in standing.teams)
    parts = [Part(ids, question.zone, question.begins, question.ends)] if ids else []
    events = events_of(parts, standing.asked.filters, mark=standing.mark)
    return Coverage(events, min(estimated, events))


def events_of(parts: Sequence[Part], filters: Mapping[str, str], *, mark: Mark | None = None) -> int:
    """Calls and slices of compute. `mark`: if it is known."""
    asked = Asked(tuple(parts), filters)
    rows = sources.summed(asked, grid=NO_GRID, names=("kind", "meter"), calls="events", mark=mark)
    return sum(row[4] for row in rows if row[0] == "usage")
