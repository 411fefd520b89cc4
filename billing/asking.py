"""Who asks what of the costs page: the question in the URL, and the teams that it is about."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps
from typing import Any

from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils import timezone

from accounts.http import TeamRequest, team_required
from accounts.models import Membership, Team
from accounts.roles import COUNTERS
from billing import costs, questions, sources
from billing.costs import Standing
from billing.errors import BadMonth, BadRange, TooMuch
from billing.questions import Question
from billing.sources import LEDGER_ALONE, Mark
from billing.spending import ALL


class CostsRequest(TeamRequest):
    """A request with a question in its URL. `teams`: the member's; `kept`: those whose money the member looks
    after. `mark`: how far their sums go."""

    question: Question
    teams: list[Team]
    kept: list[Team]
    mark: Mark


def costs_question(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Sign in; then all of a CostsRequest is set, or what is wrong with the question is said."""

    @team_required
    @wraps(view)
    def wrapper(request: CostsRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        found = Membership.objects.filter(user=request.user).select_related("team").annotate(**sources.WITH_MARK)
        rows: list[Any] = list(found.order_by("team__name"))
        request.teams = [one.team for one in rows]
        request.kept = [one.team for one in rows if one.role in COUNTERS]
        request.mark = _mark(rows)
        try:
            request.question = questions.read(_once(request.GET), zone=request.team.time_zone, now=timezone.now())
            return view(request, *args, **kwargs)
        except (BadMonth, BadRange, TooMuch) as error:
            return refused(request, str(error))

    return wrapper


def standing(request: CostsRequest, *, filtered: bool = True) -> Standing:
    """What of the ledger is asked for; everything in those days when not `filtered`."""
    question = request.question if filtered else replace(request.question, where=ALL)
    return costs.stand(question, request.kept if question.everyone else [request.team], mark=request.mark)


def refused(request: CostsRequest, reason: str) -> HttpResponse:
    """The page with what is wrong and a way back; as a part of a page, that alone."""
    context = {"reason": reason, "teams": request.teams}
    name = "billing/refused.html#reason" if getattr(request, "htmx", False) else "billing/refused.html"
    return render(request, name, context, status=400)


def _mark(rows: list[Any]) -> Mark:
    """As it was read with the memberships."""
    marks = [
        sources.mark_with(one.team_id, through=one.mark_through, turn=one.mark_turn, zone=one.mark_zone) for one in rows
    ]
    if not marks:
        return LEDGER_ALONE
    return replace(marks[0], zones={team: zone for mark in marks for team, zone in mark.zones.items()})


def _once(given: Mapping[str, str]) -> dict[str, str]:
    return {name: given[name][:300] for name in given}
