"""A ledger, or the jobs of a sweep, as one page that needs no network: plots, styles, script are inside."""

from __future__ import annotations

from functools import cache
from typing import Any

import jinja2

from mcomp.measure.operators import kind
from mcomp.report import text
from mcomp.report.facts import flat
from mcomp.report.jobs import jobs, metric_name, timed_sizes
from mcomp.report.plots.classes import per_class
from mcomp.report.plots.front import front
from mcomp.report.plots.scores import group_scores
from mcomp.report.plots.stages import stages
from mcomp.report.plots.training import curves
from mcomp.report.plots.widths import widths
from mcomp.report.plots.zeros import zeros_by_layer
from mcomp.report.summary import (
    QUICK,
    batch_sizes,
    better_by,
    files,
    final,
    layers_in_int8,
    session_note,
    verdict,
)
from mcomp.store.ledger import Census, Ledger
from mcomp.store.sweeps import SweepRecord


def render(ledger: Ledger) -> str:
    """Return the page of one run."""
    served = final(ledger)
    return page(
        "run.html",
        title=ledger.recipe,
        quick=QUICK,
        about=ledger,
        ledger=ledger,
        served=served,
        session_note=session_note(served),
        files=files(ledger),
        verdicts=[verdict(requirement, ledger.metric) for requirement in ledger.require],
        sizes=batch_sizes(ledger),
        operators=operators(served.census) if served and served.census else [],
        stages=stages(ledger) if ledger.rows else None,
        curves=curves(ledger),
        group_scores=group_scores(ledger),
        zeros=zeros_by_layer(ledger),
        widths=widths(ledger),
        per_class=per_class(served, ledger.baseline) if served and ledger.baseline else None,
    )


def render_sweep(record: SweepRecord) -> str:
    """Return the page that compares the jobs of a sweep."""
    sizes, compared, metric = timed_sizes(record.jobs), jobs(record.jobs), metric_name(record.jobs)
    return page(
        "sweep.html",
        title=record.recipe,
        about=record,
        metric=metric,
        jobs=compared,
        sizes=sizes,
        front=front(compared, metric, min(sizes, default=1)),
    )


def operators(census: Census) -> list[tuple[str, int, str]]:
    """Return the operators of the optimised graph with their number and kind, integer layers first."""
    order = ("int8", "float", "conversion", "other")
    counted = [(name, number, kind(name)) for name, number in census.by_type.items()]
    return sorted(counted, key=lambda each: (order.index(each[2]), -each[1], each[0]))


def page(template: str, **content: Any) -> str:
    """Return a template filled with what it shows; everything from a ledger is escaped."""
    import plotly.offline

    return templates().get_template(template).render(plotly_js=plotly.offline.get_plotlyjs(), **content)


@cache
def templates() -> jinja2.Environment:
    """Return the templates with the words for figures as filters."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mcomp.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Whatever is printed is freed of control characters first; jinja escapes it afterwards.
        finalize=lambda value: text.clean(value) if type(value) is str else value,
    )
    figures = (text.metric, text.change, text.size, text.count, text.ratio, text.milliseconds, text.seconds)
    environment.filters.update({show.__name__: show for show in figures})
    environment.filters.update(flat=flat, layers_in_int8=layers_in_int8)
    environment.globals.update(better_by=better_by)
    return environment
