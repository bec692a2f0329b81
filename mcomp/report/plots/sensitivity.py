"""What each part of a model costs alone."""

from __future__ import annotations

from collections.abc import Mapping

from mcomp.report.plots.style import SERIES, Figure, axis, label
from mcomp.sensitivity.record import Figure as Record
from mcomp.sensitivity.record import Sensitivity

ROW_HEIGHT = 22
TITLES: Mapping[Record, str] = {
    "task": "drop of the metric",
    "sqnr": "noise over signal",
    "latency": "share of the time saved",
}
NAMED = len(SERIES)  # so many curves have a colour and a name; the others are those that cost least


def bars(found: Sensitivity) -> Figure:
    """Return a bar for each part at its strongest level, the costliest at the top; the limit is a line."""
    strongest = [found.of(part)[-1] for part in found.parts]
    trace = {
        "type": "bar",
        "orientation": "h",
        "y": list(range(len(strongest))),
        "x": [found.weight(each) for each in strongest],
        "customdata": [[label(each.part), each.level, each.value] for each in strongest],
        "hovertemplate": "%{customdata[0]}, " + label(found.varies) + " %{customdata[1]}: "
        "%{customdata[2]:.4f}<extra></extra>",
        "marker": {"color": ["@accent" if each.cost > found.limit else "@quiet" for each in strongest]},
    }
    limit = {"type": "line", "x0": found.limit, "x1": found.limit, "y0": 0, "y1": 1, "yref": "paper"}
    return {
        "data": [trace],
        "layout": {
            "xaxis": axis(cost_title(found), zeroline=True, zerolinecolor="@muted"),
            "yaxis": {
                "tickvals": list(range(len(strongest))),
                "ticktext": [label(each.part) for each in strongest],
                "range": [len(strongest) - 0.5, -0.5],
                "showgrid": False,
                "zeroline": False,
                "fixedrange": True,
                "automargin": True,
            },
            "shapes": [{**limit, "line": {"color": "@muted", "dash": "dot"}}],
            "bargap": 0.3,
            "height": ROW_HEIGHT * len(strongest) + 70,
            "margin": {"l": 10, "r": 20, "t": 10, "b": 40},
            "showlegend": False,
        },
    }


def curves(found: Sensitivity) -> Figure | None:
    """Return the figure against the level, a curve for each part; None if each has one level only."""
    parts = [part for part in found.parts if len(found.of(part)) > 1]
    if not parts:
        return None
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": label(part),
            "x": [each.level for each in found.of(part)],
            "y": [each.value for each in found.of(part)],
            "line": {"color": SERIES[number] if number < NAMED else "@quiet", "width": 2},
            "showlegend": number < NAMED,
            "hovertemplate": f"{label(part)}, {label(found.varies)} %{{x}}: %{{y:.4f}}<extra></extra>",
        }
        for number, part in enumerate(parts)
    ]
    layout = {
        "xaxis": axis(label(found.varies)),
        "yaxis": axis(label(found.metric)),
        "height": 420,
        "margin": {"l": 10, "r": 10, "t": 20, "b": 10},
    }
    return {"data": traces, "layout": layout}


def cost_title(found: Sensitivity) -> str:
    """Return what is drawn of a cost."""
    return TITLES[found.figure]
