"""Runs and sweeps whose names, errors and facts are made to become markup, script, formulas or escapes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from contextlib import redirect_stdout
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from mcomp.store.ledger import Ledger
from tests.hostile.attack import Attack, Prepare, command, each_of
from tests.hostile.pickles import ESCAPES
from tests.hostile.recipes import LONGEST
from tests.hostile.stores import RUN, SWEEP, opened
from tests.mcomp.report import ledgers

HTML = "</script><script>pwned()</script><img src=x onerror=pwned()>\"'>"
TEXT = f"{HTML}{ESCAPES}\x9b31m{{{{ 7*7 }}}}{{% raw %}}[bold red]x[/]&lt;b&gt;"


class Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, frozenset[str]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, frozenset(name for name, _ in attrs)))


def require_harmless(page: str, harmless: str) -> None:
    """Raise AssertionError if a page has other kinds of elements than a harmless one, or more scripts."""
    found, known = Page(page), Page(harmless)
    assert set(found.tags) <= set(known.tags), set(found.tags) - set(known.tags)
    plots = page.count('<script type="application/json">')
    assert sum(tag == "script" for tag, _ in found.tags) == 2 + plots
    assert not any(letter in page for letter in ("\x1b", "\x9b", "\u202e"))


def show(folder: Path) -> None:
    """Look at a run in every way."""
    for line in (f"report {RUN}", f"explain {RUN}", "runs", "runs --json", f"report {RUN} --json"):
        command(*line.split(), "--store", "store")(folder)
    from mcomp.report.html import render

    command("report", RUN, "--html", "page.html", "--store", "store")(folder)
    require_harmless((folder / "page.html").read_text(), render(ledgers.main_job()))
    json.loads(output_of(folder, "report", RUN, "--json"))


def compare(folder: Path) -> None:
    """Look at a sweep in every way."""
    for line in (f"report {SWEEP}", f"report {SWEEP} --json", f"report {SWEEP} --csv"):
        command(*line.split(), "--store", "store")(folder)
    from mcomp.report.html import render_sweep

    command("report", SWEEP, "--html", "page.html", "--store", "store")(folder)
    require_harmless((folder / "page.html").read_text(), render_sweep(ledgers.sweep()))
    json.loads(output_of(folder, "report", SWEEP, "--json"))
    for line in csv.reader(io.StringIO(output_of(folder, "report", SWEEP, "--csv"))):
        assert not any(cell.startswith(("=", "@")) for cell in line)


def output_of(folder: Path, *arguments: str) -> str:
    """Return what a command writes for a program."""
    with redirect_stdout(io.StringIO()) as output:
        command(*arguments, "--store", "store")(folder)
    return output.getvalue()


def store_of(ledger: Ledger) -> Prepare:
    """Return what makes a store with one run."""

    def make(folder: Path) -> None:
        from mcomp.store.runs import Run

        store = opened(folder)
        store.prepare()
        run = Run(RUN, folder / "store" / "runs" / RUN, store.disk)
        run.folder.mkdir()
        run.write_ledger(ledger.model_copy(update={"run": RUN}))

    return make


def sweep_of(ledger: Ledger, **job: Any) -> Prepare:
    """Return what makes a store with a sweep of one job."""

    def make(folder: Path) -> None:
        from mcomp.store.sweeps import SweepFolder

        store = opened(folder)
        store.prepare()
        record = ledgers.sweep_of(ledger)
        jobs = tuple(each.model_copy(update={"run": "", **job}) for each in record.jobs)
        sweep = SweepFolder(SWEEP, folder / "store" / "sweeps" / SWEEP, store.disk)
        sweep.folder.mkdir()
        sweep.write_answered({0: ledger})
        sweep.write_record(record.model_copy(update={"sweep": SWEEP, "recipe": TEXT, "jobs": jobs}))

    return make


def served(**changes: Any) -> Ledger:
    """Return a run with something else in its exported file."""
    return ledgers.with_last(ledgers.missed(), served=ledgers.exported(**changes))


def last(**changes: Any) -> Ledger:
    """Return a run with something else in its last step."""
    return ledgers.with_last(ledgers.main_job(), **changes)


def census(**changes: Any) -> Any:
    """Return what the runtime runs, with changes."""
    return ledgers.exported().census.model_copy(update=changes)  # type: ignore[union-attr]


def required(**changes: Any) -> Ledger:
    """Return a run with another bound."""
    return ledgers.main_job(require=(ledgers.main_job().require[0].model_copy(update=changes),))


FIELDS: dict[str, Callable[[], Ledger]] = {
    "the name of a recipe": lambda: ledgers.main_job(recipe=TEXT),
    "the name of a metric": lambda: ledgers.main_job(metric=TEXT),
    "a version": lambda: ledgers.main_job(mcomp=TEXT),
    "a time": lambda: ledgers.main_job(started=TEXT),
    "a machine": lambda: ledgers.main_job(machine={TEXT: TEXT}),
    "an override": lambda: ledgers.main_job(overrides=(TEXT, f"{TEXT}={TEXT}")),
    "the name of a stage": lambda: last(stage=TEXT),
    "the recipe of a step": lambda: last(recipe=TEXT),
    "the type of a stage": lambda: last(type=TEXT),
    "an error": lambda: last(status="failed", error=TEXT),
    "the name of a fact": lambda: last(facts={TEXT: 1, "inner": {TEXT: {TEXT: 1}}}),
    "a fact": lambda: last(facts={"note": TEXT, "list": [TEXT, [TEXT], None, True, 1e308, -0.0]}),
    "a fact of many": lambda: last(facts={"many": [[TEXT] * 50] * 50}),
    "a history that is none": lambda: last(facts={"history": [{"number": TEXT}], "x": {"history": TEXT}}),
    "a history of infinities": lambda: last(facts={"history": [{"number": 10**30, "metric": 1e308}]}),
    "the name of a file": lambda: served(file=TEXT),
    "the name of a runtime": lambda: served(runtime=TEXT),
    "an option of a runtime": lambda: served(session={TEXT: TEXT}),
    "an operator": lambda: served(census=census(by_type={TEXT: 3})),
    "a layer in float": lambda: served(census=census(float_layers=(TEXT,), narrow_layers=(TEXT,), float=1)),
    "a cause": lambda: served(slower_because=(TEXT,)),
    "what is required": lambda: required(what=TEXT),
    "the stage that it is required of": lambda: required(stage=TEXT),
    "everything at once": lambda: ledgers.hostile().model_copy(update={"recipe": TEXT, "metric": TEXT}),
    # figures
    "figures of nothing": lambda: served(
        size_bytes=0, test=0.0, size_ratio=0.0, speedup={1: 0.0}, latency={}
    ),
    "figures below zero": lambda: served(test=-1e300, size_ratio=-1.0, metric_drop=-1e300, speedup={1: -1.0}),
    "figures beyond measure": lambda: served(
        size_bytes=2**63 - 1,
        test=1e308,
        latency={0: ledgers.latency(1e300), 2**62: ledgers.latency(1e-300)},
        speedup={0: 1e308, 2**62: 5e-324},
    ),
    "a class of figures": lambda: served(per_class=(None, -1e300, 1e300, 0.0) * 50),
    "steps that took no time, and all of it": lambda: last(seconds=1e300, peak_memory_bytes=2**63 - 1),
}


def field(name: str) -> Attack:
    """Return an attack by one field of a ledger."""
    source = "cwe-79" if "figure" not in name and "time, and" not in name else "own"
    return Attack(source, lazily(name), show, "", 0, writes=True, seconds=2 * LONGEST)


def lazily(name: str) -> Prepare:
    """Return what makes the store of a field when it is needed."""
    return lambda folder: store_of(FIELDS[name]())(folder)


def swept(source: str, ledger: Callable[[], Ledger], **job: Any) -> Attack:
    """Return an attack by a job of a sweep."""
    return Attack(
        source, lambda folder: sweep_of(ledger(), **job)(folder), compare, "", 0, writes=True, seconds=LONGEST
    )


FORMULA = "=cmd|' /C touch pwned'!A0"
ATTACKS: dict[str, Attack] = {
    **each_of(field, tuple(FIELDS)),
    "a sweep's override": swept("cwe-79", lambda: ledgers.main_job(overrides=(TEXT, f"{TEXT}={TEXT}"))),
    "a sweep's error": swept("cwe-79", ledgers.failed, error=TEXT, status="failed"),
    "a sweep's file": swept("cwe-79", ledgers.main_job, files={TEXT: TEXT}),
    "a sweep's names": swept("cwe-79", ledgers.hostile),
    "a formula for a value": swept("csv-injection", lambda: ledgers.main_job(overrides=(f"x={FORMULA}",))),
    "a formula for a key": swept(
        "csv-injection", lambda: ledgers.main_job(overrides=(f"@SUM({FORMULA})=1",))
    ),
    "a formula for an error": swept("csv-injection", ledgers.failed, error=FORMULA, status="failed"),
}
