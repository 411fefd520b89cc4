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
from billing import costs, questions
from billing.costs import Standing
from billing.errors import BadMonth, BadRange, TooMuch
from billing.questions import Question
from billing.spending import ALL


class CostsRequest(TeamRequest):
    """A request with a question in its URL. `teams`: the member's; `kept`: those whose money the member looks after."""

    question: Question
    teams: list[Team]
    kept: list[Team]


def costs_question(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Sign in; then `request.question`, `.teams` and `.kept` are set, or what is wrong with the question is said."""

    @team_required
    @wraps(view)
    def wrapper(request: CostsRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        found = Membership.objects.filter(user=request.user).select_related("team").order_by("team__name")
        request.teams = [one.team for one in found]
        request.kept = [one.team for one in found if one.role in COUNTERS]
        try:
            request.question = questions.read(_once(request.GET), zone=request.team.time_zone, now=timezone.now())
            return view(request, *args, **kwargs)
        except (BadMonth, BadRange, TooMuch) as error:
            return refused(request, str(error))

    return wrapper


def standing(request: CostsRequest, *, filtered: bool = True) -> Standing:
    """What of the ledger is asked for; everything in those days when not `filtered`."""
    question = request.question if filtered else replace(request.question, where=ALL)
    return costs.stand(question, request.kept if question.everyone else [request.team])


def refused(request: CostsRequest, reason: str) -> HttpResponse:
    """The page with what is wrong and a way back; as a part of a page, that alone."""
    context = {"reason": reason, "teams": request.teams}
    name = "billing/refused.html#reason" if getattr(request, "htmx", False) else "billing/refused.html"
    return render(request, name, context, status=400)


def _once(given: Mapping[str, str]) -> dict[str, str]:
    return {name: given[name][:300] for name in given}
