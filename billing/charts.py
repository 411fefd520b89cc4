"""Usage as Plotly figures. Floats here draw bars; the table beside each chart holds the exact money."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import Any

import plotly.graph_objects as go

from billing.periods import Month
from billing.statements import Row

HOSTED = ("#4250c9", "#6f7be0", "#99a3ee", "#2e3a9f", "#b9c0f5")
SERVERLESS = ("#0b7a5f", "#2ea884", "#6cc9ab", "#075944", "#a3dfcb")
SPLITS = {"model": "Model", "deployment": "Deployment", "path": "Path", "meter": "Meter", "key": "API key"}


def by_day(rows: Iterable[Row], month: Month, *, split: str) -> dict[str, Any]:
    """Stacked bars, a day each, one colour per `split`: shades of indigo are hosted, of green serverless."""
    costs: dict[tuple[str, str], dict[date, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for row in rows:
        costs[row.path, label_of(row, split)][row.day] += row.cost
    ranked = sorted(costs.items(), key=lambda item: -sum(item[1].values()))
    seen: dict[str, int] = defaultdict(int)
    figure = go.Figure()
    for (path, label), days in ranked:
        shades = HOSTED if path == "hosted" else SERVERLESS
        color = shades[seen[path] % len(shades)]
        seen[path] += 1
        figure.add_bar(
            name=f"{label} ({path})" if path and split != "path" else label,
            x=[day.isoformat() for day in month.days],
            y=[float(days.get(day, 0)) for day in month.days],
            customdata=[f"{days.get(day, Decimal(0)):f}" for day in month.days],
            hovertemplate="%{x|%d %b}: $%{customdata}<extra>%{fullData.name}</extra>",
            marker_color=color,
        )
    figure.update_layout(
        barmode="stack",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 60, "r": 10, "t": 10, "b": 40},
        height=320,
        legend={"orientation": "h", "y": -0.18, "x": 0},
        showlegend=True,
        bargap=0.25,
        yaxis={"tickprefix": "$", "rangemode": "tozero", "nticks": 5, "exponentformat": "none"},
        xaxis={"tickformat": "%d %b", "nticks": 8, "type": "date"},
        template="none",
    )
    figured: dict[str, Any] = figure.to_plotly_json()
    return figured


def label_of(row: Row, split: str) -> str:
    match split:
        case "deployment":
            return row.deployment or "no deployment"
        case "path":
            return row.path or row.kind
        case "meter":
            return row.meter or row.kind
        case "key":
            return row.api_key or "no key"
        case _:
            return row.model or row.reason or row.kind
