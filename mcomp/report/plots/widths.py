"""How many bits each layer got, where a step chose them."""

from __future__ import annotations

from mcomp.report.plots.style import Figure, axis, label
from mcomp.store.ledger import Ledger

WIDTHS = "widths"
ROW_HEIGHT = 18


def widths(ledger: Ledger) -> Figure | None:
    """Return the bits of each layer of the last step that chose some, in order; None if none did."""
    chosen = [row.facts[WIDTHS] for row in ledger.rows if isinstance(row.facts.get(WIDTHS), dict)]
    bits = {name: each for name, each in chosen[-1].items() if type(each) is int} if chosen else {}
    if not bits:
        return None
    trace = {
        "type": "bar",
        "orientation": "h",
        "y": [label(name) for name in bits],
        "x": list(bits.values()),
        "text": [str(each) for each in bits.values()],
        "hovertemplate": "%{y}: %{x} bits<extra></extra>",
        "marker": {"color": "@accent", "cornerradius": 3},
    }
    layout = {
        "xaxis": axis("bits of the weights", range=[0, 8.5], dtick=2),
        "yaxis": axis("", autorange="reversed", showgrid=False),
        "height": 90 + ROW_HEIGHT * len(bits),
        "margin": {"l": 10, "r": 10, "t": 10, "b": 40},
        "showlegend": False,
    }
    return {"data": [trace], "layout": layout}
