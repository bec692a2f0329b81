"""Zeros by layer and the effect of a penalty, drawn from what steps say, read with care."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects
import pytest

from mcomp.report.html import render
from mcomp.report.plots.scores import group_scores
from mcomp.report.plots.zeros import zeros_by_layer
from mcomp.store.ledger import Ledger
from tests.mcomp.report import ledgers
from tests.mcomp.report.test_html import Page, coloured

ZEROS = {"zeros": {"a.weight": [9, 10], "<b>": [0, 30]}}
SCORES = {"group_scores": {"before": [1.0, 2.0, 3.0], "after": [0.0, 0.5, 3.0]}}


def with_facts(*facts: dict[str, Any]) -> Ledger:
    rows = [ledgers.row("sparse", f"stage{number}", "prune", facts=each) for number, each in enumerate(facts)]
    return ledgers.main_job().model_copy(update={"rows": rows})


def test_zeros_are_those_of_the_last_step_that_counted_them() -> None:
    figure = zeros_by_layer(with_facts({"zeros": {"old": [1, 2]}}, ZEROS, {}))
    assert figure is not None
    (bars,) = figure["data"]
    assert bars["y"] == [90, 0]
    assert figure["layout"]["xaxis"]["ticktext"] == ["a.weight", "&lt;b&gt;"]
    assert figure["layout"]["shapes"][0]["y0"] == 22.5


def test_scores_are_drawn_before_and_after() -> None:
    figure = group_scores(with_facts({}, SCORES))
    assert figure is not None
    assert [trace["y"] for trace in figure["data"]] == [[1.0, 2.0, 3.0], [0.0, 0.5, 3.0]]
    assert figure["data"][0]["x"] == [0, 50, 100]


@pytest.mark.parametrize(
    "found",
    [None, 3, {}, {"a": 1}, {"a": [1, 0]}, {"a": [-1, 2]}, {"before": [1.0], "after": []}, {"before": "x"}],
)
def test_what_is_something_else_is_not_drawn(found: Any) -> None:
    ledger = with_facts({"zeros": found, "group_scores": found})
    assert zeros_by_layer(ledger) is None
    assert group_scores(ledger) is None


def test_the_page_draws_both_and_says_that_zeros_are_not_faster() -> None:
    page = render(with_facts(ZEROS, SCORES))
    assert "What the penalty did" in page
    assert "worth bytes of compressed files, and no time" in page
    figures = Page(page).figures
    assert len(figures) == 3
    for figure in figures:
        plotly.graph_objects.Figure(coloured(figure))
