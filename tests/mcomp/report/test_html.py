from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

import plotly.graph_objects
import pytest

from mcomp.report import html
from mcomp.report.html import render, render_sweep
from tests.mcomp.report import ledgers


class Page(HTMLParser):
    """What a browser would make of a page: its elements, its text and the figures it draws."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.figures: list[dict[str, Any]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag, attributes = self.elements[-1] if self.elements else ("", {})
        if tag == "script" and attributes.get("type") == "application/json" and data.strip():
            self.figures.append(json.loads(data))
        elif tag not in ("script", "style"):
            self.text += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


@pytest.fixture(autouse=True)
def small_bundle(monkeypatch) -> None:
    """The bundle is 5 MB that no test reads twice."""
    monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: "var Plotly = {};")


def coloured(value: Any) -> Any:
    """Put a colour where the page would put the theme's."""
    if isinstance(value, str) and value.startswith("@"):
        return "#123456"
    if isinstance(value, list):
        return [coloured(each) for each in value]
    return {key: coloured(each) for key, each in value.items()} if isinstance(value, dict) else value


def test_the_page_shows_the_figures_that_matter() -> None:
    page = Page(render(ledgers.main_job()))
    for shown in (
        "0.9900",
        "10.9×",
        "14.6×",
        "27.8×",
        "17.3 MB",
        "622 kB",
        "22 of 22",
        "QLinearConv",
        "Xeon",
    ):
        assert shown in page.text
    assert page.text.count("met") >= 4
    assert "recover.epochs" in page.text


@pytest.mark.parametrize(
    "make", [ledgers.main_job, ledgers.missed, ledgers.failed, ledgers.empty, ledgers.hostile]
)
def test_every_plot_is_one_that_plotly_accepts(make) -> None:
    for figure in Page(render(make())).figures:
        plotly.graph_objects.Figure(coloured(figure))


def test_a_whole_run_has_three_plots_and_a_run_without_steps_none() -> None:
    assert len(Page(render(ledgers.main_job())).figures) == 3
    assert Page(render(ledgers.empty())).figures == []


def test_the_steps_are_drawn_from_the_first_at_the_top_with_what_is_known() -> None:
    stages = Page(render(ledgers.main_job())).figures[0]
    validation, test, size, latency = stages["data"]
    assert stages["layout"]["yaxis"]["ticktext"][0] == "baseline, exported"
    assert stages["layout"]["yaxis"]["range"][0] > stages["layout"]["yaxis"]["range"][1]
    assert validation["y"] == [1, 2, 3, 4]
    assert (test["x"], test["y"]) == ([0.992, 0.99], [0, 5])
    assert len(size["x"]) == 6
    assert latency["x"] == [3.94, 0.361]


def test_training_is_drawn_for_each_step_that_trained_also_inside_recovery() -> None:
    curves = Page(render(ledgers.main_job())).figures[1]
    named = [trace["name"] for trace in curves["data"] if trace["showlegend"]]
    stages = ("resnet_teacher · train", "resnet_int8 · distill", "resnet_int8 · prune", "resnet_int8 · qat")
    assert named == list(stages)


def test_a_class_that_lost_right_answers_stands_above_zero() -> None:
    classes = Page(render(ledgers.main_job())).figures[2]
    assert classes["data"][0]["y"] == pytest.approx([0, 0, 0, 2, 0, 0, 0, 0, 2, 0])


def test_a_class_without_samples_is_left_out() -> None:
    served = ledgers.exported(per_class=(1.0, None, 0.5, *[1.0] * 7))
    classes = Page(render(ledgers.with_last(ledgers.main_job(), served=served))).figures[2]
    assert classes["data"][0]["x"] == [str(label) for label in range(10) if label != 1]


def test_a_slow_file_says_why() -> None:
    assert "2 of 22 layers stayed in float" in Page(render(ledgers.missed())).text


def test_a_failed_step_shows_its_error() -> None:
    assert "cannot shrink" in Page(render(ledgers.failed())).text


@pytest.mark.parametrize("make", [render, lambda ledger: render_sweep(ledgers.sweep_of(ledger))])
def test_nothing_is_asked_of_the_network(make) -> None:
    page = Page(make(ledgers.hostile()))
    assert not any(attributes.get("src") or attributes.get("href") for _, attributes in page.elements)
    (policy,) = (a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_the_whole_of_plotly_is_inside(monkeypatch) -> None:
    monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: "/* the bundle */")
    assert render(ledgers.main_job()).count("/* the bundle */") == 1


@pytest.mark.parametrize("make", [render, lambda ledger: render_sweep(ledgers.sweep_of(ledger))])
def test_hostile_names_are_text_and_nothing_else(make) -> None:
    hostile, harmless = Page(make(ledgers.hostile())), Page(make(ledgers.main_job()))
    assert "<script>alert(1)</script>[bold red]x[/]�[31m�</td>\"'{{ 7*7 }}" in hostile.text
    assert "\x1b" not in hostile.text
    assert "\u202e" not in hostile.text
    assert hostile.count("script") == 2 + len(hostile.figures)
    assert harmless.count("script") == 2 + len(harmless.figures)


def test_labels_of_a_plot_hold_no_tags() -> None:
    figures = json.dumps(Page(render(ledgers.hostile())).figures)
    assert "&lt;script" in figures
    assert "<script" not in figures


def test_a_sweep_lists_its_jobs_and_draws_those_that_were_timed() -> None:
    page = Page(render_sweep(ledgers.sweep()))
    assert "stages.prune.target.macs=0.1" in page.text
    assert "no file" in page.text
    assert "cannot shrink" in page.text
    (front,) = page.figures
    assert front["data"][0]["text"] == ["macs=0.4", "macs=0.6"]
    plotly.graph_objects.Figure(coloured(front))


def test_operators_come_with_integer_layers_first() -> None:
    census = ledgers.exported().census.model_copy(
        update={"by_type": {"Reshape": 9, "Transpose": 2, "Gemm": 1, "QLinearConv": 3, "QLinearAdd": 5}}
    )
    assert html.operators(census) == [
        ("QLinearAdd", 5, "int8"),
        ("QLinearConv", 3, "int8"),
        ("Gemm", 1, "float"),
        ("Transpose", 2, "conversion"),
        ("Reshape", 9, "other"),
    ]
