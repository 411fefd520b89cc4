"""The audit trail as it is read: filtered by who, what, on which thing and when; for the page, the file and the API."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import QuerySet

from accounts.models import AuditEvent, Team

COLUMNS = ("at", "actor", "verb", "subject", "before", "after", "ip")
RISKY = ("=", "+", "-", "@", "\t", "\r", "\n")
VERBS_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Asked:
    """What of the trail is wanted. Days are those of the team's time zone; `until` is the last day, included."""

    actor: str = ""
    verb: str = ""
    subject: str = ""
    since: date | None = None
    until: date | None = None


def of_team(team: Team, asked: Asked) -> QuerySet[AuditEvent]:
    """The newest first. Actor and subject are parts of the text in any case, the verb is the whole of it."""
    rows = AuditEvent.objects.filter(team=team)
    if asked.actor:
        rows = rows.filter(actor__icontains=asked.actor)
    if asked.verb:
        rows = rows.filter(verb=asked.verb)
    if asked.subject:
        rows = rows.filter(subject__icontains=asked.subject)
    zone = ZoneInfo(team.time_zone)
    if asked.since:
        rows = rows.filter(at__gte=datetime.combine(asked.since, time.min, zone))
    if asked.until:
        rows = rows.filter(at__lt=datetime.combine(asked.until + timedelta(days=1), time.min, zone))
    return rows


def verbs(team: Team) -> list[str]:
    """What was ever done in this team, to choose from."""
    found = AuditEvent.objects.filter(team=team).order_by("verb").values_list("verb", flat=True).distinct()
    return list(found[:VERBS_SHOWN])


def cells(rows: QuerySet[AuditEvent]) -> Iterator[list[str]]:
    """The rows of a CSV, header first. People's text that a spreadsheet would take for a formula is neutralised."""
    yield list(COLUMNS)
    for row in rows.iterator(chunk_size=1000):
        texts = [row.actor, row.verb, row.subject, in_words(row.before), in_words(row.after), row.ip or ""]
        yield [row.at.isoformat(), *map(_neutral, texts)]


class Line:
    """A row of the trail for a page: what changed, by name, as (name, before, after)."""

    def __init__(self, row: AuditEvent) -> None:
        self.row = row
        names = list(dict.fromkeys([*row.before, *row.after]))
        self.changes = [(name, self._of(row.before, name), self._of(row.after, name)) for name in names]

    @staticmethod
    def _of(side: dict[str, Any], name: str) -> str | None:
        return said(side[name]) if name in side else None


def in_words(what: Mapping[str, Any]) -> str:
    """`role: viewer; keys: 2`"""
    return "; ".join(f"{name}: {said(value)}" for name, value in what.items())


def said(value: Any) -> str:
    match value:
        case None | "" | []:
            return "none"
        case True | False:
            return "yes" if value else "no"
        case list():
            return ", ".join(map(str, value))
    return str(value)


def _neutral(text: str) -> str:
    return f"'{text}" if text.startswith(RISKY) else text
