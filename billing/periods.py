"""Days and months of a bill begin in the team's own time zone."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from billing.errors import BadMonth

_MONTH = re.compile(r"(20\d\d)-(0[1-9]|1[0-2])", re.ASCII)


@dataclass(frozen=True, slots=True)
class Month:
    """A calendar month in a time zone. `begins` <= a moment of it < `ends`, both aware UTC."""

    first: date
    zone: str

    @property
    def begins(self) -> datetime:
        return start_of_day(self.first, self.zone)

    @property
    def ends(self) -> datetime:
        return start_of_day(_first_of_next(self.first), self.zone)

    @property
    def days(self) -> list[date]:
        count = (_first_of_next(self.first) - self.first).days
        return [self.first + timedelta(days=n) for n in range(count)]

    @property
    def before(self) -> "Month":
        return Month((self.first - timedelta(days=1)).replace(day=1), self.zone)

    @property
    def after(self) -> "Month":
        return Month(_first_of_next(self.first), self.zone)

    def __str__(self) -> str:
        return f"{self.first:%Y-%m}"


def month_at(moment: datetime, zone: str) -> Month:
    """The month that `moment` falls in, on the calendar of `zone`."""
    return Month(moment.astimezone(zone_of(zone)).date().replace(day=1), zone_name(zone))


def month_named(text: str, zone: str) -> Month:
    """`2026-11` -> that month. Raises BadMonth."""
    found = _MONTH.fullmatch(text)
    if found is None:
        raise BadMonth(f"{text[:20]!r} is not a month: write it like 2026-11.")
    return Month(date(int(found[1]), int(found[2]), 1), zone_name(zone))


def start_of_day(day: date, zone: str) -> datetime:
    """The first moment of `day` in `zone`, as UTC."""
    return datetime.combine(day, time.min, tzinfo=zone_of(zone)).astimezone(UTC)


@lru_cache(maxsize=1024)
def zone_of(name: str) -> ZoneInfo:
    return ZoneInfo(zone_name(name))


@lru_cache(maxsize=1024)
def zone_name(name: str) -> str:
    """The IANA name when it is one, else UTC: a team with a mistyped zone can still call, and is billed by UTC days."""
    return name if name in available_timezones() else "UTC"


def _first_of_next(first: date) -> date:
    return (first.replace(day=1) + timedelta(days=32)).replace(day=1)
