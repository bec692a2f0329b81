"""Metric and losses by epoch."""

from __future__ import annotations

from collections.abc import Sequence

from mcomp.report.facts import history
from mcomp.report.plots.style import SERIES, Figure, axis, label
from mcomp.store.ledger import Ledger, Row


def curves(ledger: Ledger) -> Figure | None:
    """Return metric and losses by epoch, a colour for each step that trained; None if none did."""
    trained = [(row, history(row)) for row in ledger.rows]
    trained = [(row, epochs) for row, epochs in trained if epochs]
    if not trained:
        return None
    traces = []
    for number, (row, epochs) in enumerate(trained):
        colour = SERIES[number % len(SERIES)]
        numbers = [epoch.number for epoch in epochs]
        traces += [
            curve(row, numbers, [epoch.metric for epoch in epochs], colour),
            curve(row, numbers, [epoch.train_loss for epoch in epochs], colour, panel="2", dash="dot"),
            curve(row, numbers, [epoch.validation_loss for epoch in epochs], colour, panel="2"),
        ]
    return {"data": traces, "layout": curves_layout(label(ledger.metric))}


def curve(
    row: Row,
    numbers: Sequence[int],
    values: Sequence[float],
    colour: str,
    panel: str = "",
    dash: str = "solid",
) -> Figure:
    """Return one line over epochs; only the metric's stands in the legend, for all of its step."""
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(numbers) < 3 else "lines",
        "name": label(f"{row.recipe} · {row.stage}"),
        "legendgroup": label(f"{row.recipe}/{row.stage}"),
        "showlegend": not panel,
        "x": list(numbers),
        "y": list(values),
        "xaxis": f"x{panel}",
        "yaxis": f"y{panel}",
        "line": {"color": colour, "width": 2, "dash": dash},
    }


def curves_layout(metric: str) -> Figure:
    """Return two panels over epochs: the metric, and the losses on a logarithmic axis."""
    epochs = axis("epoch", showgrid=False, tickformat="d")
    return {
        "xaxis": {**epochs, "domain": [0, 0.46]},
        "xaxis2": {**epochs, "domain": [0.54, 1], "anchor": "y2"},
        "yaxis": axis(f"validation {metric}"),
        "yaxis2": axis("loss (dotted: training)", anchor="x2", type="log", dtick="D2"),
        "height": 340,
        "margin": {"l": 10, "r": 10, "t": 40, "b": 10},
        "legend": {"orientation": "h", "x": 0, "y": 1.04, "yanchor": "bottom"},
    }
