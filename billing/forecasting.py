"""What a month will have cost at its end, from what its days have cost so far. Pure: no database, no clock.

A coming day costs what its weekday has cost on average in the last four weeks (a weekday that was not seen since the
first use: what all those days have cost on average). Serverless costs at least what replicas that never sleep do. Of
today, the part that is not spent yet is still to come. Before credits. An estimate: nothing is billed by it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

SEEN_DAYS = 28
ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class DayCost:
    """USD of one day, by path."""

    hosted: Decimal = ZERO
    serverless: Decimal = ZERO

    @property
    def total(self) -> Decimal:
        return self.hosted + self.serverless


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """USD. `spent` + `rest_of_today` + `coming` = `usd`; `seen_days` are the whole days that it is made from, and
    `committed` is what of it replicas that never sleep will cost anyway."""

    spent: Decimal
    rest_of_today: Decimal
    coming: Decimal
    committed: Decimal
    seen_days: int

    @property
    def usd(self) -> Decimal:
        return self.spent + self.rest_of_today + self.coming


def of_month(
    costs: Mapping[date, DayCost],
    *,
    today: date,
    last: date,
    spent: Decimal,
    committed_per_day: Decimal = ZERO,
    left_of_today: Decimal = Decimal(1),
) -> Forecast | None:
    """`costs` by day, with at least the four weeks before today; `last` is the month's last day; `spent` what the month
    has cost so far; `left_of_today` a share. None: no whole day was seen and nothing is committed."""
    seen = _seen(costs, today)
    if not seen and not committed_per_day:
        return None
    usual, so_far = _expected(seen, today, ZERO), costs.get(today, DayCost())
    still_awake = max(usual.serverless - so_far.serverless, committed_per_day * left_of_today)
    rest = max(usual.hosted - so_far.hosted, ZERO) + max(still_awake, ZERO)
    ahead = [today + timedelta(days=number) for number in range(1, (last - today).days + 1)]
    coming = sum((_expected(seen, day, committed_per_day).total for day in ahead), ZERO)
    committed = committed_per_day * (len(ahead) + left_of_today)
    return Forecast(spent=spent, rest_of_today=rest, coming=coming, committed=committed, seen_days=len(seen))


def runs_out_on(
    costs: Mapping[date, DayCost], *, today: date, last: date, left: Decimal, committed_per_day: Decimal = ZERO
) -> date | None:
    """The day on which `left` USD will be gone by the same rule; None: not before the month's end."""
    seen, spent_today = _seen(costs, today), costs.get(today, DayCost()).total
    if not seen and not committed_per_day:
        return None
    left += spent_today
    for day in (today + timedelta(days=number) for number in range((last - today).days + 1)):
        expected = _expected(seen, day, committed_per_day).total
        left -= max(expected, spent_today) if day == today else expected
        if left < 0:
            return day
    return None


def _seen(costs: Mapping[date, DayCost], today: date) -> dict[date, DayCost]:
    """The whole days of the last four weeks since the first use; a day without any cost nothing."""
    window = [today - timedelta(days=number) for number in range(SEEN_DAYS, 0, -1)]
    used = [day for day, cost in costs.items() if cost.total]
    first = min(used, default=today)
    return {day: costs.get(day, DayCost()) for day in window if day >= first}


def _expected(seen: Mapping[date, DayCost], day: date, committed: Decimal) -> DayCost:
    alike = [cost for other, cost in seen.items() if other.weekday() == day.weekday()] or list(seen.values())
    many = max(len(alike), 1)
    hosted = sum((cost.hosted for cost in alike), ZERO) / many
    serverless = sum((cost.serverless for cost in alike), ZERO) / many
    return DayCost(hosted, max(serverless, committed))
