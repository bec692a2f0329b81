"""The card of a served model: what it is, what from, its figures, limits and licence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mcomp.report import text
from mcomp.report.summary import session_note, verdict
from mcomp.report.text import clean
from mcomp.store.ledger import Ledger, Row


def model_card(row: Row, ledger: Ledger, settings: Mapping[str, Any]) -> str:
    """Return the card as Markdown; everything in it is data of the run, nothing is guessed."""
    return "\n".join([*what(row, ledger), *figures(row, ledger), *limits(row, ledger, settings)]) + "\n"


def what(row: Row, ledger: Ledger) -> Iterator[str]:
    """Yield what the model is and how it was made."""
    assert row.served is not None
    yield f"# {clean(ledger.recipe)}"
    yield ""
    yield f"`{clean(row.served.file)}`, for {clean(row.served.runtime)}. Key `{row.key}`."
    yield ""
    yield "## What from"
    yield ""
    for each in ledger.rows:
        yield f"- {clean(each.recipe)}, stage {clean(each.stage)} ({clean(each.type)}), key `{each.key[:12]}`"
    yield ""
    yield f"Made by mcomp {clean(ledger.mcomp)}, run {clean(ledger.run)}, {clean(ledger.started)}."
    yield ""


def figures(row: Row, ledger: Ledger) -> Iterator[str]:
    """Yield what was measured, beside the baseline exported the same way."""
    served, baseline = row.served, ledger.baselines.get(row.stage)
    assert served is not None
    yield "## Figures"
    yield ""
    yield "| | this file | baseline |\n| --- | --- | --- |"
    pairs = [("test " + clean(ledger.metric), text.metric, "test"), ("bytes", text.size, "size_bytes")]
    for name, show, field in pairs:
        there = show(getattr(baseline, field)) if baseline else text.NONE
        yield f"| {name} | {show(getattr(served, field))} | {there} |"
    for size, known in served.latency.items():
        other = baseline.latency.get(size) if baseline else None
        there = text.milliseconds(other.median_ms if other else None)
        yield f"| batch {size}, {served.threads} threads | {text.milliseconds(known.median_ms)} | {there} |"
    yield ""
    machine = ", ".join(f"{clean(name)} {clean(value)}" for name, value in ledger.machine.items())
    yield f"Measured on {machine}."
    for requirement in ledger.require:
        said = verdict(requirement, clean(ledger.metric))
        yield f"Asked for: {said.what} {said.bound}: {said.value}, {'met' if said.met else 'missed'}."
    yield ""


def limits(row: Row, ledger: Ledger, settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield where the figures hold, and the licence."""
    served = row.served
    assert served is not None
    yield "## Limits"
    yield ""
    yield "- The metric is that of the test split of the recipe's data; of other data it says nothing."
    yield "- Latencies hold for the machine above."
    if ledger.quick:
        yield "- It was made from a part of the data (`--quick`): its figures are no results."
    if served.per_class:
        known = [share for share in served.per_class if share is not None]
        yield f"- The worst class: {text.metric(min(known, default=None))} of its samples are right."
    note = session_note(served)
    if note:
        yield f"- {clean(note)}."
    for cause in served.slower_because:
        yield f"- Slower than the baseline: {clean(cause)}."
    yield ""
    yield "## Licence"
    yield ""
    said = settings.get("licence")
    yield clean(f"{said}." if said else "Not recorded: the recipe says none (`licence` of data and model).")
    yield "The licence of these weights follows from those of the model and of all data that it learnt from."
