"""What a deployment costs: its own rows of the ledger, by hour, day and month of the team's calendar."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from django.utils import timezone

from billing import meters, periods, usage
from billing.usage import Metered
from deployments import status
from deployments.lifecycle import Status
from deployments.status import Report

# Sums of the ledger may take a twentieth of the time of those who look at them all the time.
SLOW_S, PART_OF_TIME, MOST_KEPT = 0.05, 1 / 20, 1000
Sums = dict[str, dict[str, Metered]]
_kept: dict[tuple[object, ...], tuple[float, Sums]] = {}
STARTING, FAILED_STARTS = meters.COMPUTE_STARTING.name, meters.COMPUTE_STARTING_FAILED.name


@dataclass(frozen=True, slots=True)
class Line:
    """One meter of the month."""

    label: str
    unit: str
    metered: Metered


@dataclass(frozen=True, slots=True)
class Lately:
    """USD on the ledger, exact; what runs now is on it from minute to minute, and until then in `running_up`. For one
    that has failed, `attempt` is what it has cost since somebody last asked for it."""

    hour: Decimal
    day: Decimal
    month: Decimal
    running_up: Decimal
    attempt: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Costs:
    """All of it. `lines` is the month by meter, `starts` what its starts cost. `awake_s` and `busy_s` are of the last
    hour: with a replica that takes calls, and with a call that is being answered."""

    lately: Lately
    life: Decimal
    starts: Decimal
    lines: list[Line]
    awake_s: float
    busy_s: float
    zone: str

    @property
    def busy_share(self) -> float | None:
        """Of the time awake; more than one replica may be awake at once."""
        return min(1.0, self.busy_s / self.awake_s) if self.awake_s else None

    @property
    def idle_s(self) -> float:
        return max(0.0, self.awake_s - self.busy_s)


def lately(report: Report) -> Lately:
    return _lately(report, _sums(report, _begins(report)))


def of(report: Report, *, until: datetime | None = None) -> Costs:
    """`until`: the name has been another deployment's since."""
    row, now = report.row, timezone.now()
    found = _sums(report, _begins(report) | {"life": row.created_at}, until)
    month, hour_ago = found["month"], now - timedelta(hours=1)
    return Costs(
        lately=_lately(report, found),
        life=_total(found["life"]),
        starts=sum((month[name].amount for name in (STARTING, FAILED_STARTS) if name in month), Decimal(0)),
        lines=[_line(name, one) for name, one in sorted(month.items())],
        awake_s=_awake_s(report, hour_ago, now),
        busy_s=usage.busy_seconds(row.team, deployment_name=row.name, begins=hour_ago, ends=now),
        zone=periods.zone_name(row.team.time_zone),
    )


def _begins(report: Report) -> dict[str, datetime]:
    """Of the hour, the day and the month of the team's clock, and of a failed attempt, or the deployment's own if that
    is later."""
    zone, now = report.row.team.time_zone, timezone.now()
    begins = {"hour": _hour(now, zone), "day": _day(now, zone), "month": periods.month_at(now, zone).begins}
    if report.row.status == Status.FAILED:
        begins["attempt"] = report.row.asked_at or report.row.created_at  # type: ignore[attr-defined]
    return {name: max(moment, report.row.created_at) for name, moment in begins.items()}


def _sums(report: Report, since: dict[str, datetime], until: datetime | None = None) -> Sums:
    """Sums that take long are kept for a while, so that open pages don't sum up a large ledger again and again."""
    key = (report.row.pk, until, *since.items())
    good_until, kept = _kept.get(key, (0.0, None))
    began = time.monotonic()
    if kept is not None and began < good_until:
        return kept
    found = usage.of_deployment(
        report.row.team, deployment_name=report.row.name, since=since, until=until, mark=status.mark_of([report])
    )
    took_s = time.monotonic() - began
    if took_s > SLOW_S:
        if len(_kept) > MOST_KEPT:
            _kept.clear()
        _kept[key] = (time.monotonic() + took_s / PART_OF_TIME, found)
    return found


def _lately(report: Report, found: Sums) -> Lately:
    totals = {name: _total(found[name]) for name in ("hour", "day", "month")}
    attempt = _total(found["attempt"]) if "attempt" in found else None
    return Lately(**totals, running_up=report.unbilled, attempt=attempt)


def _total(meters_of_it: dict[str, Metered]) -> Decimal:
    return sum((one.amount for one in meters_of_it.values()), Decimal(0))


def _line(name: str, metered: Metered) -> Line:
    meter = meters.METERS.get(name)
    return Line(meter.label if meter else name, meter.unit if meter else "", metered)


def _awake_s(report: Report, begins: datetime, ends: datetime) -> float:
    """With at least one replica that takes calls; no longer ago than a report for a page looks back."""
    spans = []
    for one in (*report.replicas, *report.lately):
        end = min(filter(None, [one.remove_asked_at, one.exited_at, ends]))
        if one.ready_at and one.ready_at < ends and end > begins:
            spans.append((max(one.ready_at, begins), end))
    total, covered = 0.0, begins
    for begin, end in sorted(spans):
        total += max(0.0, (end - max(begin, covered)).total_seconds())
        covered = max(covered, end)
    return total


def _hour(now: datetime, zone: str) -> datetime:
    """The hour of the team's clock; there are zones whose hours begin at another minute than UTC's."""
    return now.astimezone(periods.zone_of(zone)).replace(minute=0, second=0, microsecond=0).astimezone(UTC)


def _day(now: datetime, zone: str) -> datetime:
    return periods.start_of_day(now.astimezone(periods.zone_of(zone)).date(), zone)
