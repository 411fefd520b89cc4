"""The list of a team's deployments: how each stands, what it costs today, how it is called. In a few queries."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from django.utils import timezone
from django.utils.safestring import SafeString

from accounts.models import Team
from billing import periods, usage
from deployments import charts, status, tallies
from deployments.lifecycle import SETTLED
from deployments.models import Deployment, Replica
from deployments.status import Report

HOUR = timedelta(hours=1)
BINS = 30
MOST_OVER = 10
PAGE_SIZE = 50


@dataclass(frozen=True, slots=True)
class Row:
    """`today` is on the ledger since midnight of the team's clock."""

    report: Report
    today: Decimal
    calls: list[int]

    @property
    def chart(self) -> SafeString:
        return charts.spark(self.calls, label=f"{sum(self.calls)} calls in the last hour", width=96, height=22)

    @property
    def awake(self) -> list[Replica]:
        return self.report.ready

    @property
    def asleep(self) -> range:
        """So many more there may be."""
        return range(max(0, self.report.row.max_replicas - len(self.report.replicas)))


@dataclass(frozen=True, slots=True)
class Overview:
    """A page of those that are not over, and of the last that are; `more` others are over, too. `count`: all of them
    that are not."""

    rows: list[Row]
    more: int
    count: int
    page: int = 1
    pages: int = 1


def of(team: Team, *, most_over: int = MOST_OVER, page: int = 1) -> Overview:
    known = list(Deployment.objects.of(team).order_by("-created_at").values_list("pk", "status"))
    going = [pk for pk, is_in in known if is_in not in SETTLED]
    over = [pk for pk, is_in in known if is_in in SETTLED]
    asked = going + over[:most_over]
    pages = max(1, -(-len(asked) // PAGE_SIZE))
    page = min(max(page, 1), pages)
    shown = status.standing(team, asked[(page - 1) * PAGE_SIZE : page * PAGE_SIZE])
    live = [report for report in shown if not report.is_over]
    now = timezone.now()
    calls = tallies.sparks([report.row.pk for report in live], since=now - HOUR, bins=BINS)
    today = _today(team, now, shown)
    rows = [Row(report, today.get(report.row.pk, Decimal(0)), calls.get(report.row.pk, [0] * BINS)) for report in shown]
    return Overview(rows, len(over) - len(over[:most_over]), len(going), page, pages)


def _today(team: Team, now: datetime, shown: Sequence[Report]) -> dict[UUID, Decimal]:
    midnight = periods.start_of_day(now.astimezone(periods.zone_of(team.time_zone)).date(), team.time_zone)
    return usage.of_lives(team, status.lives(shown), since=midnight, mark=status.mark_of(shown))
