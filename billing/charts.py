"""A reading of the ledger as a Plotly figure. Floats here draw bars; the exact money stands beside each as text.

The figure has no colours: each trace names one of the page's (static/css/costs.css), which follow light and dark.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from billing.costs import APART, LATE, USAGE, Bucket, Reading, Series
from billing.questions import Question, Thing, other_than, written
from billing.rating import add

SHOWN = 9
HUES = {"hosted": "indigo", "serverless": "green"}
LAYOUT = {
    "barmode": "relative",
    "bargap": 0.2,
    "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
    "showlegend": False,
    "hovermode": "closest",
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "template": "none",
    "yaxis": {"fixedrange": True, "tickformat": "$,~r", "nticks": 6},
}


@dataclass(frozen=True, slots=True)
class Legend:
    """How a series is called and coloured; `query` finds its rows. What is not `alone` is drawn within "other"."""

    series: Series
    name: str
    color: str
    alone: bool
    query: dict[str, str]


def legend(reading: Reading, *, names: dict[str, str]) -> list[Legend]:
    """One for each series, in their order. `names`: what some values are called, the teams' slugs for example."""
    found, ranks = [], dict.fromkeys(HUES, 0)
    for place, one in enumerate(reading.series):
        alone = one.kind != USAGE or place < SHOWN
        color = {"credit": "credit", "correction": "correction"}.get(one.kind, "other")
        if one.kind == USAGE and alone:
            ranks[one.path] += 1
            color = f"{HUES[one.path]}-{ranks[one.path]}"
        found.append(
            Legend(
                one, name_of(reading.question, one.kind, one.value, names), color, alone, _query(reading.question, one)
            )
        )
    return found


def figure(reading: Reading, entries: Sequence[Legend]) -> dict[str, Any]:
    """Stacked bars over the buckets of the question, without what came late. `customdata` is the exact USD of each."""
    buckets = [bucket for bucket in reading.buckets if bucket.at != LATE]
    shown: list[tuple[list[Series], str, str, Mapping[str, str | list[str]]]] = [
        ([entry.series], entry.name, entry.color, entry.query) for entry in entries if entry.alone
    ]
    if others := [entry.series for entry in entries if not entry.alone]:
        usage = [entry for entry in entries if entry.alone and entry.series.kind == USAGE]
        named = [Thing(entry.series.path, entry.series.value) for entry in usage]
        shown.append((others, f"{len(others)} others", "other", {"kind": USAGE, **other_than(named)}))
    drawn = go.Figure(
        data=[_bar(one, len(buckets), name=name, color=color, query=query) for one, name, color, query in shown],
        layout=LAYOUT
        | {
            "xaxis": {"fixedrange": True, "showgrid": False, "zeroline": False, "range": [-0.6, len(buckets) - 0.4]},
            "meta": {"buckets": [{"name": bucket.name, "at": bucket.at, "tick": _tick(bucket)} for bucket in buckets]},
        },
    )
    figured: dict[str, Any] = drawn.to_plotly_json()
    return figured


def _bar(series: Sequence[Series], many: int, *, name: str, color: str, query: Mapping[str, str | list[str]]) -> go.Bar:
    sums = [add(one.by_bucket[n] for one in series if n in one.by_bucket) for n in range(1, many + 1)]
    return go.Bar(
        name=name,
        x=list(range(many)),
        y=[float(cost) if cost else None for cost in sums],
        customdata=[f"{cost:f}" for cost in sums],
        textposition="none",
        hovertemplate="%{text}: $%{customdata}<extra>%{fullData.name}</extra>",
        meta={"color": color, "query": query},
    )


def name_of(question: Question, kind: str, value: str, names: dict[str, str]) -> str:
    """What people call it. `names` come before the values themselves."""
    if kind in APART and not value:
        return APART[kind]
    return names.get(value) or question.named(question.split, value)


def _query(question: Question, one: Series) -> dict[str, str]:
    if one.kind in APART:
        return {"kind": one.kind}
    return {"kind": one.kind, "path": one.path, question.split: written(one.value)}


def _tick(bucket: Bucket) -> str:
    if bucket.start is None:
        return ""
    if "T" in bucket.at:
        return f"{bucket.start:%H:%M}" if bucket.start.hour else f"{bucket.start:%a} {bucket.start.day}"
    return f"{bucket.start.day} {bucket.start:%b}"
