"""The costs page, its parts that are asked for later, and the month's files."""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.http import TeamRequest, team_required
from billing import (
    asking,
    charts,
    costs,
    coverage,
    downloads,
    glance,
    idleness,
    parquet,
    periods,
    questions,
    rating,
    scope,
)
from billing.asking import CostsRequest, costs_question
from billing.costs import FAILED_STARTS, STARTING, Bucket, Line, Reading, Standing
from billing.errors import BadMonth, NoParquet
from billing.questions import Question
from billing.spending import COLUMNS
from billing.statements import FORMATS

# A table of a page has at most so many lines; what is beyond is one line, and whole in the CSV.
MOST_LINES, MOST_CHOICES = 200, 200
ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Link:
    """A way to the same page, asked otherwise. `why` says why it is none."""

    label: str
    query: str
    current: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True)
class Day:
    """A line of the table by day or hour."""

    bucket: Bucket
    hosted: Decimal
    serverless: Decimal
    apart: Decimal
    cost: Decimal


@dataclass(frozen=True, slots=True)
class Start:
    """What starts took and cost, on one meter."""

    seconds: Decimal = ZERO
    cost: Decimal = ZERO


@require_safe
@costs_question
def costs_page(request: CostsRequest) -> HttpResponse:
    now, question = timezone.now(), request.question
    standing = asking.standing(request)
    reading, lines = costs.read(standing), costs.lines(standing)
    facts = glance.facts_of(standing, now=now)
    estimated = sum(one.estimated for one in facts.values())
    measured = coverage.of_page(standing, estimated=estimated)
    glances = glance.each(standing, facts, glance.spent_of(standing, reading), now=now)
    names = {team.slug: team.name for team in standing.teams} if question.split == "team" else {}
    entries = charts.legend(reading, names=names)
    context = {
        "question": question,
        "reading": reading,
        "cost": reading.cost,
        "late_cost": reading.late,
        "apart": rating.add([reading.credited, reading.corrected]),
        "glance": glances[0] if len(glances) == 1 and not question.everyone else glance.together(glances),
        "glances": glances,
        "entries": entries[:MOST_LINES],
        "more_entries": _rest(entries[MOST_LINES:]),
        "figure": charts.figure(reading, entries) if entries else None,
        "days": _days(reading),
        "lines": [(line, charts.name_of(question, line.kind, line.value, names)) for line in lines[:MOST_LINES]],
        "more_lines": (len(lines[MOST_LINES:]), rating.add(line.cost for line in lines[MOST_LINES:])),
        "names": names,
        "figures": _figures(lines, reading),
        "coverage": measured,
        "estimated": measured.estimated if measured else estimated,
        "in_flight": sum(one.in_flight for one in facts.values()),
        "fields": question.fields(),
        "parquet": parquet.installed(),
        "teams": request.teams,
        "base_url": request.build_absolute_uri("/v1"),
        **_ways(request, standing),
    }
    return render(request, "billing/costs.html", context)


@require_safe
@costs_question
def idle(request: CostsRequest) -> HttpResponse:
    """How long replicas were awake without a call: a late part of the costs page, and a page of its own."""
    found = idleness.of(asking.standing(request))
    context = {
        "question": request.question,
        "rows": found,
        "awake_s": rating.add(one.awake_s for one in found),
        "idle_s": rating.add(one.idle_s for one in found),
        "usd": sum((one.usd for one in found), ZERO),
        "teams": request.teams,
    }
    name = "billing/idle.html#figure" if getattr(request, "htmx", False) else "billing/idle.html"
    return render(request, name, context)


@require_safe
@costs_question
def filters(request: CostsRequest) -> HttpResponse:
    """The choices there are, each with what it cost: a part of the costs page, and a page of its own."""
    question = request.question
    everything = asking.standing(request, filtered=False)
    spent, names = costs.by_value(everything), {team.slug: team.name for team in everything.teams}
    choices = [
        (name, label, question.fields().get(name), _choices(question, name, spent[name], names))
        for name, label in question.splits.items()
    ]
    hidden = {name: value for name, value in question.fields().items() if name in {"scope", "split", "by"}}
    context = {"question": question, "choices": choices, "hidden": hidden, "teams": request.teams}
    name = "billing/filters.html#form" if getattr(request, "htmx", False) else "billing/filters.html"
    return render(request, name, context)


@require_safe
@team_required
def statement(request: TeamRequest, month: str, ending: str) -> HttpResponseBase:
    """The month's file: plain, detail or focus as CSV, or the detail as Parquet."""
    try:
        wanted = periods.month_named(month, request.team.time_zone)
    except BadMonth as error:
        raise Http404(str(error)) from error
    default = "parquet" if ending == "parquet" else "plain"
    found = FORMATS.get(request.GET.get("format", default))
    if found is None or found.ending != ending:
        raise Http404(f"no such format: use one of {', '.join(FORMATS)}")
    try:
        return downloads.answer(request, scope.of(request.team, wanted), found)
    except NoParquet as error:
        messages.error(request, str(error))
        return redirect(f"{reverse('costs')}?month={wanted}")


def _ways(request: CostsRequest, standing: Standing) -> dict[str, Any]:
    """Where else the page leads: other days, other splits, fewer filters, other teams."""
    question = request.question
    month = question.month
    current = periods.month_at(timezone.now(), request.team.time_zone)
    chips = [
        (questions.SPLITS[name], question.named(name, value), question.only(name, None).query)  # type: ignore[index]
        for name, value in question.where.given().items()
    ]
    span = timedelta(days=question.days)
    before = (
        question.with_month(month.before) if month else question.with_days(question.first - span, question.last - span)
    )
    later = (
        question.with_month(month.after) if month else question.with_days(question.first + span, question.last + span)
    )
    invoices = [one for one in standing.scopes if one.number]
    return {
        "recent": _recent(question, current),
        "month": month or periods.Month(question.first.replace(day=1), question.zone),
        "is_current": month == current,
        "before": before.query,
        "after": later.query if later.begins <= timezone.now() else "",
        "chips": chips,
        "splits": [
            Link(label, _other(question, split=name), current=name == question.split)
            for name, label in question.splits.items()
        ],
        "steps": _steps(question),
        "everyone": _other(question, scope="all", split="team") if len(request.kept) > 1 else "",
        "alone": _other(question, scope="", split="model" if question.split == "team" else question.split, team=""),
        "invoice": invoices[0].number if invoices and not question.everyone else "",
        "unfiltered": _other(question, **dict.fromkeys(COLUMNS, "")),
    }


def _recent(question: Question, current: periods.Month) -> list[Link]:
    """The days that are asked for most, at one click."""
    today = timezone.now().astimezone(periods.zone_of(question.zone)).date()
    days = {"Today": (0, 0), "Yesterday": (1, 1), "7 days": (6, 0)}
    spans = {
        label: question.with_days(today - timedelta(days=first), today - timedelta(days=last))
        for label, (first, last) in days.items()
    }
    return [
        Link(
            label,
            there.query,
            current=(question.month is None and question.first == there.first and question.last == there.last),
        )
        for label, there in spans.items()
    ] + [Link("This month", question.with_month(current).query, current=question.month == current)]


def _steps(question: Question) -> list[Link]:
    hourly = question.may_be_hourly
    why = "" if hourly else f"Hours are shown for at most {questions.HOURLY_DAYS} days: click a day, or ask for fewer."
    by_day = Link("By day", _other(question, by="day"), current=question.step == "day")
    return [by_day, Link("By hour", _other(question, by="hour"), current=question.step == "hour", why=why)]


def _other(question: Question, **changes: str) -> str:
    """The same question with these fields of the URL; an empty one is left out."""
    return f"?{urlencode({name: value for name, value in (question.fields() | changes).items() if value})}"


def _days(reading: Reading) -> list[Day]:
    """Only buckets in which something was spent."""
    found = []
    for number, bucket in enumerate(reading.buckets):
        parts = [(one, one.by_bucket[number]) for one in reading.series if number in one.by_bucket]
        if parts:
            hosted, serverless, apart = (
                rating.add(cost for one, cost in parts if one.path == path) for path in ("hosted", "serverless", "")
            )
            found.append(Day(bucket, hosted, serverless, apart, rating.add([hosted, serverless, apart])))
    return found


def _figures(lines: list[Line], reading: Reading) -> dict[str, Any]:
    calls = sum(line.calls for line in lines)
    usage = reading.hosted + reading.serverless
    starts = [line for line in lines if line.meter == STARTING and line.kind == costs.USAGE]
    failed = [line for line in lines if line.meter == FAILED_STARTS and line.kind == costs.USAGE]
    return {
        "calls": calls,
        "per_thousand": usage * 1000 / calls if calls else None,
        "saved": reading.saved,
        "starts": _summed(starts),
        "failed": _summed(failed),
        "ran": any(line.path == "serverless" for line in lines),
    }


def _summed(lines: list[Line]) -> Start:
    return Start(rating.add(line.quantity for line in lines), rating.add(line.cost for line in lines))


def _rest(entries: list[charts.Legend]) -> dict[str, Any]:
    series = [entry.series for entry in entries]
    return {
        "many": len(series),
        "calls": sum(one.calls for one in series),
        "cost": rating.add(one.cost for one in series),
    }


def _choices(
    question: Question, name: str, spent: dict[str, Decimal], teams: dict[str, str]
) -> list[tuple[str, str, Decimal]]:
    """(value, as people read it, what it cost), the dearest first."""
    titles = teams if name == "team" else {}
    dearest = sorted(spent.items(), key=lambda pair: -pair[1])[:MOST_CHOICES]
    return [
        (questions.written(value), titles.get(value) or question.named(name, value), cost) for value, cost in dearest
    ]
