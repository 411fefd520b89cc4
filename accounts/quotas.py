"""Quotas: the most that a team may have of something. The platform's administrators set them; upper apps ask here."""

from collections.abc import Callable
from dataclasses import dataclass

from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils.module_loading import import_string

from accounts.errors import QuotaReached
from accounts.models import Quota, Team

What = Quota.What
RAISED_BY = "The portal's administrators can raise it."

# (what, of) -> how much of it is in use.
Uses = dict[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class Standing:
    """A quota with what is in use of it."""

    what: str
    of: str
    most: int
    used: int

    @property
    def label(self) -> str:
        return _label(self.what, self.of)

    @property
    def percent(self) -> int:
        return min(100, 100 * self.used // self.most) if self.most else 100

    @property
    def is_full(self) -> bool:
        return self.used >= self.most


def most(team: Team, what: str, *, of: str = "") -> int | None:
    """The most that this team may have; None: as much as it likes. The nearest row counts: the team's before every
    team's, and one for this very hardware before one for each hardware. The platform's own team has none."""
    if team.is_platform:
        return None
    rows = {(row.team_id is not None, row.of): row.most for row in _rows(team).filter(what=what, of__in={"", of})}
    ranked = ((True, of), (True, ""), (False, of), (False, ""))
    return next((rows[place] for place in ranked if place in rows), None)


def check(team: Team, what: str, *, used: Callable[[], int], adding: int = 1, of: str = "") -> None:
    """Raise QuotaReached, which says the quota, what is used and who can raise it, if `adding` would be too much.

    Inside a transaction: where there is a quota, the team is locked until its end before `used` is counted, so of two
    who ask at once the second one counts what the first one took.
    """
    limit = most(team, what, of=of)
    if limit is None:
        return
    Team.objects.select_for_update(no_key=True).get(pk=team.pk)
    now = used()
    if now + adding > limit:
        name, more = _label(what, of), f"; this asks for {adding:,} more" if adding > 1 else ""
        raise QuotaReached(what, f"Your team's quota is {limit:,} {name}, and {now:,} are in use{more}. {RAISED_BY}")


def standings(team: Team) -> list[Standing]:
    """All that holds for this team, with what is in use: settings.QUOTA_COUNTS name the functions that count."""
    if team.is_platform:
        return []
    rows = sorted(_rows(team), key=lambda row: row.team_id is not None)
    limits = {(row.what, row.of): row.most for row in rows}
    uses: Uses = {}
    for name, kinds in settings.QUOTA_COUNTS.items():
        if any(what in kinds for what, _ in limits):
            uses |= import_string(name)(team)
    each = limits.pop((What.REPLICAS, ""), None)
    if each is not None:
        each_one = {key: each for key in uses if key[0] == What.REPLICAS} or {(str(What.REPLICAS), ""): each}
        limits = each_one | limits
    return [Standing(*key, limit, uses.get(key, 0)) for key, limit in sorted(limits.items())]


def _label(what: str, of: str) -> str:
    return What(what).label.replace("one hardware", of) if of else What(what).label


def _rows(team: Team) -> QuerySet[Quota]:
    return Quota.objects.filter(Q(team=team) | Q(team=None))
