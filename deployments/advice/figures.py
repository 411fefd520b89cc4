"""The break-even as a Plotly figure. Floats draw lines; the table beside it holds the exact money."""

from decimal import Decimal
from typing import Any

import plotly.graph_objects as go

from deployments.advice import words
from deployments.advice.amounts import dollars, short
from deployments.advice.costing import Cost, Way
from deployments.advice.reckoning import Advice, Choice

# The page's own colours, by name: its script knows them in light and in dark.
COLOURS = {Way.HOSTED: "hosted", Way.SERVERLESS: "serverless", Way.ALWAYS_ON: "serverless"}
DASHES = ("solid", "dash", "dot", "dashdot")


def of(advice: Advice) -> dict[str, Any] | None:
    """Cost by volume, the asked volume and each break-even marked; None where no line can be drawn."""
    if not advice.lines or not advice.calls:
        return None
    per_call = advice.question.traffic.tokens_per_call
    by_key = {choice.cost.key: choice for choice in advice.choices}
    figure = go.Figure()
    machines: list[str] = []
    for line in advice.lines:
        cost = by_key[line.key].cost
        if cost.machine and cost.machine.slug not in machines:
            machines.append(cost.machine.slug)
        tokens = [per_call * point.calls for point in line.points]
        figure.add_scatter(
            name=label_of(cost),
            mode="lines",
            x=[float(count) for count in tokens],
            y=[float(point.cost) for point in line.points],
            customdata=[[short(count), dollars(point.cost)] for count, point in zip(tokens, line.points, strict=True)],
            hovertemplate="%{customdata[0]} tokens: %{customdata[1]}<extra>%{fullData.name}</extra>",
            line={"width": 2.5 if cost.way != Way.ALWAYS_ON else 1.5, "dash": _dash(cost, machines)},
            meta=COLOURS[cost.way],
        )
    _mark(figure, advice, per_call)
    kind = "log" if advice.is_log else "linear"
    ticks = _ticks([per_call * point.calls for line in advice.lines for point in line.points], is_log=advice.is_log)
    figure.update_layout(
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 64, "r": 16, "t": 28, "b": 44},
        height=380,
        legend={"orientation": "h", "y": -0.16, "x": 0},
        showlegend=True,
        hovermode="closest",
        yaxis={"tickprefix": "$", "rangemode": "tozero", "nticks": 6, "type": kind}
        | ({"dtick": 1} if advice.is_log else {}),
        xaxis={"type": kind, "tickvals": [float(tick) for tick in ticks], "ticktext": [short(tick) for tick in ticks]},
        template="none",
    )
    figured: dict[str, Any] = figure.to_plotly_json()
    return figured


def label_of(cost: Cost) -> str:
    if cost.machine is None:
        return "Hosted"
    return f"{cost.machine.name}, {'asleep when idle' if cost.way == Way.SERVERLESS else 'always on'}"


def _ticks(tokens: list[Decimal], *, is_log: bool) -> list[Decimal]:
    """Round numbers of tokens: powers of ten, or four to eight equal steps."""
    most = max(tokens)
    if is_log:
        low = max(min(tokens), Decimal(1))
        return [Decimal(10) ** n for n in range(low.adjusted(), most.adjusted() + 2)]
    step = Decimal(10) ** most.adjusted()
    step = next(step / part for part in (1, 2, 5, 10) if most / (step / part) >= 4)
    return [step * n for n in range(int(most / step) + 1)]


def _dash(cost: Cost, machines: list[str]) -> str:
    """A dash for each hardware; always on is thin, and dotted."""
    if cost.machine is None:
        return "solid"
    return "dot" if cost.way == Way.ALWAYS_ON else DASHES[machines.index(cost.machine.slug) % 2]


def _mark(figure: go.Figure, advice: Advice, per_call: Decimal) -> None:
    asked = [choice for choice in advice.choices if choice.cost.monthly is not None]
    figure.add_scatter(
        name="What you asked",
        mode="markers",
        x=[float(per_call * advice.calls)] * len(asked),
        y=[float(choice.cost.monthly or 0) for choice in asked],
        customdata=[[words.name_of(choice.cost), dollars(choice.cost.monthly or Decimal(0))] for choice in asked],
        hovertemplate="asked: %{customdata[1]} %{customdata[0]}<extra></extra>",
        marker={"size": 9, "symbol": "circle-open", "line": {"width": 2}},
        meta="ink",
    )
    crossed = _crossed(advice)
    if not crossed:
        return
    marks = [(choice, choice.crossing) for choice in crossed if choice.crossing]
    figure.add_scatter(
        name="Break-even",
        mode="markers+text",
        x=[float(per_call * one.calls) for _, one in marks],
        y=[float(one.cost) for _, one in marks],
        text=[f"{short(per_call * one.calls)}" for _, one in marks],
        textposition="top left",
        customdata=[
            [words.name_of(choice.cost), short(per_call * one.calls), dollars(one.cost)] for choice, one in marks
        ],
        hovertemplate="break-even with %{customdata[0]}: %{customdata[1]} tokens, %{customdata[2]}<extra></extra>",
        marker={"size": 11, "symbol": "x-thin", "line": {"width": 2.5}},
        meta="ink",
    )


def _crossed(advice: Advice) -> list[Choice]:
    """Once for each volume: where both ways of a hardware cross together, one mark is enough."""
    drawn = {line.key: {point.calls for point in line.points} for line in advice.lines}
    found: dict[int, Choice] = {}
    for choice in advice.own:
        if choice.crossing and choice.crossing.calls in drawn.get(choice.cost.key, set()):
            found.setdefault(choice.crossing.calls, choice)
    return list(found.values())
