"""Where the zeros of a sparse model are, by layer."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from mcomp.report.plots.style import Figure, axis, label
from mcomp.store.ledger import Ledger

ZEROS = "zeros"
MOST_LABELS = 40

Count = Annotated[int, Field(ge=0)]
COUNTS = TypeAdapter(dict[str, tuple[Count, Annotated[int, Field(ge=1)]]])


def zeros_by_layer(ledger: Ledger) -> Figure | None:
    """Return the share of zeros of each weight after the last step that counted them; None if none did."""
    known = [found for row in ledger.rows if (found := counts(row.facts.get(ZEROS)))]
    if not known:
        return None
    names, pairs = list(known[-1]), list(known[-1].values())
    zeros, sizes = (sum(part) for part in zip(*pairs, strict=True))
    trace = {
        "type": "bar",
        "x": list(range(len(names))),
        "y": [100 * count / size for count, size in pairs],
        "customdata": [[label(name), count, size] for name, (count, size) in known[-1].items()],
        "hovertemplate": "%{customdata[0]}: %{customdata[1]} of %{customdata[2]}<extra></extra>",
        "marker": {"color": "@accent", "cornerradius": 3},
    }
    return {"data": [trace], "layout": zeros_layout(names, 100 * zeros / sizes)}


def counts(found: Any) -> dict[str, tuple[int, int]]:
    """Return [zeros, numbers] by weight; what a plugin calls `zeros` and is something else is no count."""
    try:
        return COUNTS.validate_python(found)
    except ValidationError:
        return {}


def zeros_layout(names: list[str], overall: float) -> Figure:
    """Return axes with every layer's name where there is room, and a line at the share of the whole model."""
    layers = {"tickvals": list(range(len(names))), "ticktext": [label(name) for name in names]}
    few = len(names) <= MOST_LABELS
    return {
        "xaxis": axis("", showgrid=False, tickangle=-60, showticklabels=few, **layers),
        "yaxis": axis("zeros, %", range=[0, 105]),
        "shapes": [
            {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": overall, "y1": overall}
            | {"line": {"color": "@muted", "width": 1, "dash": "dot"}}
        ],
        "bargap": 0.3,
        "height": 340 if few else 260,
        "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
        "showlegend": False,
    }
