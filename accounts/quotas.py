"""Quotas: the most that a team may have of something. The platform's administrators set them; upper apps ask here."""

from django.db.models import Q, QuerySet

from accounts.errors import QuotaReached
from accounts.models import Quota, Team

What = Quota.What
RAISED_BY = "The portal's administrators can raise it."


def most(team: Team, what: str, *, of: str = "") -> int | None:
    """The most that this team may have; None: as much as it likes. The nearest row counts: the team's before every
    team's, and one for this very hardware before one for each hardware."""
    rows = {(row.team_id is not None, row.of): row.most for row in _rows(team).filter(what=what, of__in={"", of})}
    ranked = ((True, of), (True, ""), (False, of), (False, ""))
    return next((rows[place] for place in ranked if place in rows), None)


def check(team: Team, what: str, *, used: int, adding: int = 1, of: str = "") -> None:
    """Raise QuotaReached, which says the quota, what is used and who can raise it, if `adding` would be too much."""
    limit = most(team, what, of=of)
    if limit is None or used + adding <= limit:
        return
    name = What(what).label + (f" ({of})" if of else "")
    raise QuotaReached(what, f"Your team's quota is {limit:,} {name}, and {used:,} are in use. {RAISED_BY}")


def of_team(team: Team) -> dict[tuple[str, str], int]:
    """All that holds for this team: (what, of) -> the most."""
    rows = sorted(_rows(team), key=lambda row: row.team_id is not None)
    return {(row.what, row.of): row.most for row in rows}


def _rows(team: Team) -> QuerySet[Quota]:
    return Quota.objects.filter(Q(team=team) | Q(team=None))
