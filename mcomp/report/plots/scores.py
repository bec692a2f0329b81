"""What a penalty made of the groups of channels."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mcomp.report.plots.style import SERIES, Figure, axis, label
from mcomp.store.ledger import Ledger

SCORES = "group_scores"

Curve = Annotated[list[float], Field(min_length=2, max_length=1000)]


class Scores(BaseModel):
    """The scores of all groups, ascending, before and after a training with a penalty."""

    model_config = ConfigDict(allow_inf_nan=False)

    before: Curve
    after: Curve


def group_scores(ledger: Ledger) -> Figure | None:
    """Return the scores over the share of groups below them, for each step with a penalty; None without."""
    known = [(row, found) for row in ledger.rows if (found := scores(row.facts.get(SCORES))) is not None]
    if not known:
        return None
    traces = []
    for number, (row, found) in enumerate(known):
        colour, name = SERIES[number % len(SERIES)], label(f"{row.recipe} · {row.stage}")
        traces += [
            curve(found.before, f"{name}, before", colour, "dot"),
            curve(found.after, f"{name}, after", colour, "solid"),
        ]
    return {"data": traces, "layout": scores_layout()}


def scores(found: Any) -> Scores | None:
    """Return both curves; what a plugin calls `group_scores` and is something else is none."""
    try:
        return Scores.model_validate(found)
    except ValidationError:
        return None


def curve(values: list[float], name: str, colour: str, dash: str) -> Figure:
    """Return one line."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [100 * place / (len(values) - 1) for place in range(len(values))],
        "y": values,
        "line": {"color": colour, "width": 2, "dash": dash},
    }


def scores_layout() -> Figure:
    """Return axes from zero: what lies on it costs nothing."""
    return {
        "xaxis": axis("groups below, %", showgrid=False, range=[0, 100]),
        "yaxis": axis("score of a group", rangemode="tozero"),
        "height": 300,
        "margin": {"l": 10, "r": 10, "t": 40, "b": 10},
        "legend": {"orientation": "h", "x": 0, "y": 1.04, "yanchor": "bottom"},
    }
