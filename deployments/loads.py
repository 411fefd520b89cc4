"""What the gateways of all processes hold, as each last said: calls in flight, calls that wait, where they go."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from django.utils import timezone

from deployments import news
from deployments.models import GatewayReport

# A gateway that has said nothing for so long is dead, and so are its calls.
FRESH_FOR = timedelta(seconds=15)


@dataclass(frozen=True, slots=True)
class Loads:
    """Of all gateways together. `calls` by replica, `waiting` by deployment; `routed`: replicas that at least one
    gateway would send its next call to."""

    calls: Counter[str] = field(default_factory=Counter)
    waiting: Counter[str] = field(default_factory=Counter)
    routed: frozenset[str] = frozenset()


def report(
    reporter: str,
    *,
    calls: Mapping[str, int],
    waiting: Mapping[UUID, int],
    routed: Collection[str],
    tell: bool = False,
) -> None:
    """Replace what this gateway said before. `tell` those at once who wait for its calls to end."""
    row = GatewayReport(
        reporter=reporter,
        at=timezone.now(),
        calls=dict(calls),
        waiting={str(key): count for key, count in waiting.items()},
        routed=list(routed),
    )
    fields = ["at", "calls", "waiting", "routed"]
    GatewayReport.objects.bulk_create([row], update_conflicts=True, unique_fields=["reporter"], update_fields=fields)
    if tell:
        news.tell_of_gateway(reporter)


def leave(reporter: str) -> None:
    """It has ended in good order and holds nothing more."""
    GatewayReport.objects.filter(pk=reporter).delete()


def forget_old() -> None:
    """Drop what the dead have left."""
    GatewayReport.objects.filter(at__lt=timezone.now() - 4 * FRESH_FOR).delete()


def now() -> Loads:
    calls: Counter[str] = Counter()
    waiting: Counter[str] = Counter()
    routed: set[str] = set()
    for row in GatewayReport.objects.filter(at__gte=timezone.now() - FRESH_FOR):
        calls.update(row.calls)
        waiting.update(row.waiting)
        routed.update(row.routed)
    return Loads(calls, waiting, frozenset(routed))
