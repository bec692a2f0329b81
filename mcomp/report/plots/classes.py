"""What each class lost."""

from __future__ import annotations

from mcomp.report.plots.style import Figure, axis
from mcomp.store.ledger import Served


def per_class(served: Served, baseline: Served) -> Figure | None:
    """Return how much of each class's right answers was lost against the baseline; None without classes."""
    pairs = enumerate(zip(baseline.per_class, served.per_class, strict=False))
    known = [(number, was, now) for number, (was, now) in pairs if was is not None and now is not None]
    if not known:
        return None
    drops = [100 * (was - now) for _, was, now in known]
    trace = {
        "type": "bar",
        "x": [str(number) for number, _, _ in known],
        "y": drops,
        "customdata": [[100 * was, 100 * now] for _, was, now in known],
        "hovertemplate": "class %{x}: %{customdata[0]:.1f} % → %{customdata[1]:.1f} %<extra></extra>",
        "marker": {"color": ["@accent" if drop > 0 else "@quiet" for drop in drops], "cornerradius": 3},
    }
    return {"data": [trace], "layout": per_class_layout(1.15 * max(1.0, *map(abs, drops)))}


def per_class_layout(limit: float) -> Figure:
    """Return axes that show zero, also if nothing was lost."""
    return {
        "xaxis": axis("class", type="category", showgrid=False),
        "yaxis": axis("points lost", zeroline=True, zerolinecolor="@muted", range=[-limit, limit]),
        "bargap": 0.35,
        "height": 260,
        "margin": {"l": 10, "r": 10, "t": 10, "b": 40},
        "showlegend": False,
    }
