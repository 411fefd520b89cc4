"""What the costs page is asked. All of it stands in the URL, so that a page can be sent to somebody else."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, datetime, timedelta
from typing import Any, Literal
from urllib.parse import urlencode

from django.utils.dateparse import parse_date

from billing import periods
from billing.errors import BadRange
from billing.meters import METERS
from billing.spending import ALL, Filters, Split, Step

SPLITS: dict[Split, str] = {
    "model": "Model",
    "path": "Path",
    "deployment": "Deployment",
    "key": "API key",
    "member": "Member",
    "tag": "Tag",
    "meter": "Meter",
    "team": "Team",
}
NONE = "(none)"  # what has no deployment, key, member or tag, as a filter in the URL
_LIKE_NONE = re.compile(r"\(+none\)+")
HOURLY_DAYS, MOST_DAYS = 7, 366


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The days `first` to `last` of the calendar of `zone`, or the statement of `month`. `everyone`: all teams whose
    money the member keeps, side by side."""

    zone: str
    first: date
    last: date
    month: periods.Month | None
    step: Step = "day"
    split: Split = "model"
    where: Filters = ALL
    everyone: bool = False

    @property
    def begins(self) -> datetime:
        return periods.start_of_day(self.first, self.zone)

    @property
    def ends(self) -> datetime:
        return periods.start_of_day(self.last + timedelta(days=1), self.zone)

    @property
    def days(self) -> int:
        return (self.last - self.first).days + 1

    @property
    def may_be_hourly(self) -> bool:
        return self.days <= HOURLY_DAYS

    @property
    def filtered(self) -> bool:
        return self.where != ALL

    @property
    def splits(self) -> dict[Split, str]:
        return {name: label for name, label in SPLITS.items() if self.everyone or name != "team"}

    @property
    def split_label(self) -> str:
        return SPLITS[self.split]

    @property
    def split_noun(self) -> str:
        """Within a sentence."""
        return self.split_label if self.split == "key" else self.split_label.lower()

    def fields(self) -> dict[str, str]:
        """As the names and values of a URL or a form."""
        asked = {"scope": "all"} if self.everyone else {}
        if self.month is not None:
            asked["month"] = str(self.month)
        else:
            asked |= {"from": self.first.isoformat(), "to": self.last.isoformat()}
        if self.step == "hour":
            asked["by"] = "hour"
        asked["split"] = self.split
        return asked | {name: written(value) for name, value in self.where.given().items()}

    @property
    def query(self) -> str:
        """`?month=2026-11&split=model`"""
        return f"?{urlencode(self.fields())}"

    def with_days(self, first: date, last: date) -> "Question":
        fitting: Step = self.step if (last - first).days < HOURLY_DAYS else "day"
        return replace(self, first=first, last=last, month=None, step=fitting)

    def with_month(self, month: periods.Month) -> "Question":
        return replace(self, first=month.days[0], last=month.days[-1], month=month, step="day")

    def only(self, name: str, value: str | None) -> "Question":
        """The same of what has this value alone; None: of any."""
        return replace(self, where=replace(self.where, **{name: value}))

    def named(self, name: str, value: str) -> str:
        """A value that is split or filtered by, as people read it."""
        if name == "meter" and value in METERS:
            return METERS[value].label
        return value or f"no {SPLITS[name].lower() if name != 'key' else 'key'}"  # type: ignore[index]


def written(value: str) -> str:
    """A filter's value as it stands in the URL; what people call `(none)` themselves has one more pair of brackets."""
    return f"({value})" if _LIKE_NONE.fullmatch(value) else value or NONE


@dataclass(frozen=True, slots=True)
class Thing:
    """What one colour of the chart is: a value of what the question is split by, on one path."""

    path: str
    value: str

    def __str__(self) -> str:
        return f"{self.path}/{written(self.value)}"


OTHER_THAN = "not"
MOST_NAMED = 20


def other_than(named: Sequence[Thing]) -> dict[str, list[str]]:
    """In a URL: what is none of these. They stand there by name, so that the URL means the same tomorrow."""
    return {OTHER_THAN: [str(one) for one in named]}


def named_in(texts: Sequence[str]) -> list[Thing]:
    """What `other_than` wrote. Raises BadRange for what it can't have written."""
    found = [Thing(path, _value(text)) for path, slash, text in (one.partition("/") for one in texts) if slash]
    if len(found) != len(texts) or len(found) > MOST_NAMED:
        raise BadRange(f"Name at most {MOST_NAMED} that are left out, each with its path: hosted/NAME.")
    return found


def read(given: Mapping[str, str], *, zone: str, now: datetime) -> Question:
    """The URL's question; this month by model when it asks for nothing. Raises BadMonth and BadRange."""
    everyone = given.get("scope") == "all"
    default: Split = "team" if everyone else "model"
    split: Any = given.get("split", default)
    asked = Question(
        **_span(given, zone=zone, now=now),
        zone=periods.zone_name(zone),
        split=split if split in SPLITS and (everyone or split != "team") else default,
        where=_where(given, everyone=everyone),
        everyone=everyone,
    )
    step: Literal["day", "hour"] = "hour" if asked.may_be_hourly and _wants_hours(given, asked) else "day"
    return replace(asked, step=step)


def _span(given: Mapping[str, str], *, zone: str, now: datetime) -> dict[str, Any]:
    if not (given.get("from") or given.get("to")):
        text = given.get("month")
        month = periods.month_named(text, zone) if text else periods.month_at(now, zone)
        return {"first": month.days[0], "last": month.days[-1], "month": month}
    first, last = (_day(given.get(name) or given.get(other, "")) for name, other in (("from", "to"), ("to", "from")))
    if last < first:
        raise BadRange(f"The range ends on {last}, before it begins on {first}.")
    if (last - first).days >= MOST_DAYS:
        raise BadRange(f"A range has at most {MOST_DAYS} days.")
    return {"first": first, "last": last, "month": None}


def _day(text: str) -> date:
    try:
        day = parse_date(text)
    except ValueError:
        day = None
    if day is None or not 2000 <= day.year < 2100:
        raise BadRange(f"{text[:20]!r} is no day: write it like 2026-11-05.")
    return day


def _wants_hours(given: Mapping[str, str], asked: Question) -> bool:
    return given.get("by") == "hour" or (asked.days == 1 and given.get("by") != "day")


def _where(given: Mapping[str, str], *, everyone: bool) -> Filters:
    found = {}
    for field in fields(Filters):
        value = given.get(field.name, "").replace("\0", "")
        if value and (everyone or field.name != "team"):
            found[field.name] = _value(value)
    return Filters(**found)


def _value(text: str) -> str:
    """What `written` wrote."""
    if text == NONE:
        return ""
    return text[1:-1] if _LIKE_NONE.fullmatch(text) else text
