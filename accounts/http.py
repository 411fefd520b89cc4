"""Whose page is this? Every view below takes the team from here and scopes its queries by it."""

import functools
from collections.abc import Callable
from typing import Any

from django.contrib.auth import get_user
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect

from accounts import two_factor
from accounts.errors import TwoFactorRequired
from accounts.models import Membership, Team, User

SESSION_KEY = "team_id"


class TeamRequest(HttpRequest):
    """A request whose user is signed in and has a team."""

    user: User
    team: Team
    membership: Membership


def team_required(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Sign in first; then `request.team` and `request.membership` are set, or the way to make a team is shown."""

    @login_required
    @functools.wraps(view)
    def wrapper(request: TeamRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        membership = current_membership(request)
        if membership is None:
            return redirect("team-new")
        request.membership, request.team = membership, membership.team
        return view(request, *args, **kwargs)

    return wrapper


def current_membership(request: HttpRequest) -> Membership | None:
    """The membership chosen with the team switcher, else the user's first.

    Raises TwoFactorRequired where the team asks for a second factor that the user doesn't have: whoever asks for the
    team, in whatever app, gets no further.
    """
    found = chosen_membership(request)
    if found is not None:
        two_factor.ask(found)
    return found


def chosen_membership(request: HttpRequest) -> Membership | None:
    """As current_membership(), for the pages that lead to a second factor: it opens nothing of the team."""
    if not request.user.is_authenticated:
        return None
    memberships = _memberships(request)
    chosen = str(request.session.get(SESSION_KEY))
    return next((one for one in memberships if str(one.team_id) == chosen), memberships[0] if memberships else None)


def _memberships(request: HttpRequest) -> list[Membership]:
    """The user's, the oldest first; asked once for a request, for its view and for every page's menu of teams."""
    kept: tuple[object, list[Membership]] | None = getattr(request, "_memberships", None)
    if kept is None or kept[0] != request.user.pk:
        rows = Membership.objects.filter(user=request.user).select_related("team", "user")  # type: ignore[misc]
        kept = (request.user.pk, list(rows.order_by("created_at", "pk")))
        request._memberships = kept  # type: ignore[attr-defined]
    return kept[1]


def membership_now(request: HttpRequest) -> Membership | None:
    """As current_membership(), for an answer that lasts: session, user and membership are read anew. None, too, where
    a second factor is missing."""
    fresh = HttpRequest()
    fresh.session = type(request.session)(request.session.session_key)  # type: ignore[call-arg]
    fresh.user = get_user(fresh)  # type: ignore[assignment]
    try:
        return current_membership(fresh)
    except TwoFactorRequired:
        return None


def team_context(request: HttpRequest) -> dict[str, Any]:
    """For every template: the current team, and the teams to switch to."""
    if not getattr(request, "user", None) or not request.user.is_authenticated:
        return {"team": None, "teams": []}
    membership = getattr(request, "membership", None) or chosen_membership(request)
    return {
        "team": membership.team if membership else None,
        "membership": membership,
        "teams": sorted((one.team for one in _memberships(request)), key=lambda team: team.name),
    }
