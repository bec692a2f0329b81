"""`mcomp report`: what a run or a sweep did and gave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcomp.cli.complete import complete_runs
from mcomp.cli.options import console, opened_store, store_option

if TYPE_CHECKING:
    from mcomp.store.ledger import Ledger
    from mcomp.store.store import Store


@click.command()
@click.argument("identity", metavar="[RUN or SWEEP]", required=False, shell_complete=complete_runs)
@store_option
@click.option("--json", "as_json", is_flag=True, help="Print the ledger, or the table of a sweep, as JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="Print the table of a sweep as CSV.")
@click.option("--html", type=click.Path(path_type=Path), help="Write one self-contained page to this file.")
def report(identity: str | None, store: Path, as_json: bool, as_csv: bool, html: Path | None) -> None:
    """Show what a run or a sweep did and what it gave; the last one by default.

    \b
    Examples
      mcomp report
      mcomp report --html report.html
      mcomp report 20260131-101500-resnet_int8-3fa1 --json
      mcomp report 20260131-101500-resnet_int8-3fa1 --csv > jobs.csv
    """
    from mcomp.errors import RecipeError

    kept = opened_store(store)
    runs, sweeps = kept.runs(), kept.sweeps()
    if not runs and not sweeps:
        raise RecipeError(f"{store} has no run yet; start one with mcomp run, or choose another with --store")
    if identity is None:
        identity = last(kept)
    if identity in sweeps:
        report_sweep(identity, kept, as_json, as_csv, html)
    elif identity not in runs:
        raise RecipeError(f"{store} has no run or sweep {identity}; the last one is {last(kept)}")
    elif as_csv:
        raise RecipeError(f"{identity} is one run; --csv lists the jobs of a sweep, --json prints a run")
    else:
        report_run(kept.run(identity).read_ledger(), as_json, html)


def report_run(ledger: Ledger, as_json: bool, html: Path | None) -> None:
    """Show what a run did and gave."""
    if html is not None:
        from mcomp.report.html import render

        write_page(render(ledger), html)
    elif as_json:
        # In ASCII: names in it must not steer a terminal either.
        click.echo(json.dumps(ledger.model_dump(mode="json"), indent=2))
    else:
        show_ledger(ledger)


def report_sweep(sweep: str, store: Store, as_json: bool, as_csv: bool, html: Path | None) -> None:
    """Show what a sweep gave."""
    from mcomp.cli.sweep import show_sweep
    from mcomp.report.results import results_csv, results_json
    from mcomp.sweep.record import read_sweep

    record = read_sweep(store, sweep)
    if html is not None:
        from mcomp.report.html import render_sweep

        write_page(render_sweep(record), html)
    elif as_json or as_csv:
        click.echo(results_json(record) if as_json else results_csv(record), nl=False)
    else:
        show_sweep(record)


def last(store: Store) -> str:
    """Return the id of what ran last; runs that are jobs of the last sweep count as that sweep."""
    from mcomp.store.runs import run_ids

    runs, sweeps = store.runs(), store.sweeps()
    if not sweeps:
        return runs[0]
    jobs = {job.run for job in store.sweep(sweeps[0]).read_record().jobs}
    return run_ids([*sweeps[:1], *(run for run in runs if run not in jobs)])[0]


def write_page(page: str, path: Path) -> None:
    """Write a page. Raises RecipeError if the file cannot be written."""
    from mcomp.errors import RecipeError

    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"cannot write {path}: {error.strerror}; name another file with --html") from error
    click.echo(f"wrote {path}")


def show_ledger(ledger: Ledger) -> None:
    """Print the table of a run."""
    from mcomp.report.table import ledger_table

    console().print(ledger_table(ledger))
