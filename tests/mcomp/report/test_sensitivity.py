"""Costs on a terminal and as a page."""

from __future__ import annotations

import plotly.graph_objects
import pytest

from mcomp.report.plots.sensitivity import bars, curves
from mcomp.report.sensitivity import patch_text, sensitivity_page, sensitivity_table
from mcomp.sensitivity.record import Cost, Sensitivity
from tests.mcomp.report.test_html import Page, coloured
from tests.mcomp.report.test_table import line_of, printed

COSTS = (
    Cost(part="stem", level=8, value=0.98, cost=0.01),
    Cost(part="stem", level=4, value=0.59, cost=0.4),
    Cost(part="fc", level=8, value=0.99, cost=0.0),
    Cost(part="fc", level=4, value=0.995, cost=-0.005),
)


def record(**changes: object) -> Sensitivity:
    made = Sensitivity(
        mcomp="0.1", started="2026-01-31T10:15:00", recipe="toy", stage="qat", type="quantize.qat",
        key="0" * 64, varies="bits", figure="task", metric="accuracy", reference=0.99, limit=0.005,
        samples=200, costs=COSTS, patch={"overrides": [{"modules": "stem", "keep_float": True}]},
        said="1 of 2 layers stay in float",
    )  # fmt: skip
    return made.model_copy(update=changes)


def test_the_part_that_costs_most_comes_first_and_has_the_longest_bar() -> None:
    shown = printed(sensitivity_table(record()))
    lines = [line for line in shown.splitlines() if line.startswith(("stem", "fc"))]
    assert [line.split()[:2] for line in lines] == [["stem", "8"], ["stem", "4"], ["fc", "8"], ["fc", "4"]]
    assert [line.count("█") for line in lines] == [1, 24, 0, 0]
    assert " ".join(lines[1].split()[:4]) == "stem 4 0.5900 +0.4000"
    assert "0.9900" in line_of(shown, "  accuracy")


def test_a_terminal_without_unicode_has_bars_too() -> None:
    assert "#" * 24 in printed(sensitivity_table(record()), encoding="ascii")


def test_noise_is_shown_as_a_share_of_the_signal() -> None:
    noisy = record(figure="sqnr", reference=None, costs=(Cost(part="fc", level=8, value=40, cost=0.01),))
    assert " ".join(line_of(printed(sensitivity_table(noisy)), "fc").split()[:4]) == "fc 8 40.0 1.00%"


@pytest.mark.parametrize("costs", [COSTS, COSTS[1:2], ()])
def test_plots_are_ones_that_plotly_accepts(costs: tuple[Cost, ...]) -> None:
    for figure in filter(None, (bars(record(costs=costs)), curves(record(costs=costs)))):
        plotly.graph_objects.Figure(coloured(figure))


def test_curves_are_drawn_where_there_are_levels() -> None:
    drawn = curves(record())
    assert drawn is not None
    assert [trace["name"] for trace in drawn["data"]] == ["stem", "fc"]
    assert curves(record(costs=COSTS[1:2])) is None


def test_the_page_has_the_patch_line_by_line_and_escapes_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: "var Plotly = {};")
    hostile = tuple(each.model_copy(update={"part": "<b>x</b>"}) for each in COSTS)
    page = Page(sensitivity_page(record(costs=hostile)))
    assert "stages:\n  qat:\n    overrides:\n" in page.text
    assert page.text.count("<b>x</b>") == 4
    assert len(page.figures) == 2


def test_without_fields_there_is_no_patch() -> None:
    assert patch_text(record(patch={})) == ""


def test_of_times_what_saves_most_comes_first_with_the_longest_bar() -> None:
    costs = (
        Cost(part="conv", level=0.25, value=1.9, cost=-0.05),
        Cost(part="conv", level=0.5, value=2.1, cost=0.05),
        Cost(part="fc", level=0.5, value=1.0, cost=-0.5),
    )
    timed = record(figure="latency", metric="latency (ms)", reference=2.0, limit=0.0, samples=0, costs=costs)
    shown = printed(sensitivity_table(timed))
    lines = [line for line in shown.splitlines() if line.startswith(("conv", "fc"))]
    assert [" ".join(line.split()[:4]) for line in lines] == [
        "fc 0.5 1.0000 -50.0%", "conv 0.25 1.9000 -5.0%", "conv 0.5 2.1000 +5.0%",
    ]  # fmt: skip
    assert [line.count("█") for line in lines] == [24, 2, 0]
    plotly.graph_objects.Figure(coloured(bars(timed)))
