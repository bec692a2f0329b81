"""What every step did to metric, bytes and latency."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mcomp.report import text
from mcomp.report.plots.style import Figure, label
from mcomp.report.summary import batch_sizes
from mcomp.store.ledger import Ledger, Served

Point = tuple[int, float, str]

ROW_HEIGHT = 38
SMALLEST_SPAN = 0.01  # of a metric: below this, a difference is not blown up to the width of the plot


@dataclass(frozen=True)
class Line:
    """What is known after a step: the metric on validation for a model, on test for a measured file."""

    name: str
    validation: float | None = None
    test: float | None = None
    size_bytes: int | None = None
    latency_ms: float | None = None


def stages(ledger: Ledger) -> Figure:
    """Return metric, bytes and latency side by side, a line for each step, from the first at the top."""
    batch_size = min(batch_sizes(ledger), default=1)
    lines = stage_lines(ledger, batch_size)
    traces = [
        dots(points([line.validation for line in lines], text.metric), "lines+markers+text", "circle-open"),
        dots(points([line.test for line in lines], text.metric), "markers+text", "diamond"),
        bars(points([line.size_bytes for line in lines], text.size), "x2"),
        bars(points([line.latency_ms for line in lines], text.milliseconds), "x3"),
    ]
    titles = (label(ledger.metric), "bytes", f"latency, batch {batch_size}")
    return {"data": traces, "layout": stages_layout([line.name for line in lines], titles, traces)}


def stage_lines(ledger: Ledger, batch_size: int) -> list[Line]:
    """Return the baseline's files, where there are any, and the steps that are not its exports."""
    several = len(ledger.baselines) > 1
    lines = [
        served_line(f"baseline, exported{f' ({name})' if several else ''}", served, batch_size)
        for name, served in ledger.baselines.items()
    ]
    for row in ledger.rows:
        name = f"{row.recipe} · {row.stage}"
        if row.served:
            lines.append(served_line(name, row.served, batch_size))
        elif row.figures.validation is not None:
            lines.append(Line(name, row.figures.validation, size_bytes=row.figures.size_bytes))
    return lines


def served_line(name: str, served: Served, batch_size: int) -> Line:
    """Return what is known of an exported file."""
    timed = served.latency.get(batch_size)
    latency_ms = timed.median_ms if timed else None
    return Line(name, test=served.test, size_bytes=served.size_bytes, latency_ms=latency_ms)


def points(values: Sequence[float | None], show: Callable[[float], str]) -> list[Point]:
    """Return position, value and text of what is known."""
    return [(position, value, show(value)) for position, value in enumerate(values) if value is not None]


def dots(known: Sequence[Point], mode: str, symbol: str) -> Figure:
    """Return a metric as dots and not as bars: its axis does not begin at zero."""
    return {
        "type": "scatter",
        "mode": mode,
        "x": [value for _, value, _ in known],
        "y": [position for position, _, _ in known],
        "text": [f"  {shown}" for _, _, shown in known],
        "textposition": "middle right",
        "textfont": {"color": "@ink"},
        "line": {"color": "@line", "width": 2},
        "marker": {"size": 10, "symbol": symbol, "color": last_accented(len(known)), "line": {"width": 2.5}},
        "cliponaxis": False,
        "hoverinfo": "none",
    }


def bars(known: Sequence[Point], axis: str) -> Figure:
    """Return amounts as bars from zero."""
    return {
        "type": "bar",
        "orientation": "h",
        "x": [value for _, value, _ in known],
        "y": [position for position, _, _ in known],
        "xaxis": axis,
        "text": [shown for _, _, shown in known],
        "textposition": "outside",
        "textfont": {"color": "@ink"},
        "marker": {"color": last_accented(len(known)), "cornerradius": 3},
        "width": 0.5,
        "cliponaxis": False,
        "hoverinfo": "none",
    }


def last_accented(number: int) -> list[str]:
    """Return a quiet colour for all but the last: that one is the result."""
    return ["@quiet"] * (number - 1) + ["@accent"] * min(number, 1)


def stages_layout(names: Sequence[str], titles: Sequence[str], traces: Sequence[Figure]) -> Figure:
    """Return three panels that share the steps as their vertical axis."""
    hidden = {"showgrid": False, "zeroline": False, "showticklabels": False, "fixedrange": True}
    domains, ranges = ((0.0, 0.27), (0.36, 0.64), (0.72, 1.0)), panel_ranges(traces)
    axes = {
        name: {**hidden, "domain": domain, "range": bounds}
        for name, domain, bounds in zip(("xaxis", "xaxis2", "xaxis3"), domains, ranges, strict=True)
    }
    titled = [
        {"text": title, "x": domain[0], "y": 1, "xref": "paper", "yref": "paper", "yanchor": "bottom"}
        | {"xanchor": "left", "showarrow": False, "font": {"color": "@muted"}}
        for title, domain in zip(titles, domains, strict=True)
    ]
    steps = {"tickvals": list(range(len(names))), "ticktext": [label(name) for name in names]}
    return {
        **axes,
        "yaxis": {**steps, "range": [len(names) - 0.5, -0.5], "showgrid": False, "zeroline": False}
        | {"fixedrange": True, "ticks": "", "automargin": True, "ticklabelstandoff": 14},
        "annotations": titled,
        "height": ROW_HEIGHT * len(names) + 50,
        "margin": {"l": 10, "r": 50, "t": 34, "b": 8},
        "showlegend": False,
    }


def panel_ranges(traces: Sequence[Figure]) -> list[list[float]]:
    """Return the span of each panel, with room for its texts; only the metric's does not begin at 0."""
    validation, test, *amounts = (trace["x"] for trace in traces)
    low, high = min(validation + test, default=0.0), max(validation + test, default=1.0)
    span = max(high - low, SMALLEST_SPAN)
    from_zero = [[0.0, 1.35 * max(values, default=1.0)] for values in amounts]
    return [[low - 0.1 * span, high + 0.6 * span], *from_zero]
