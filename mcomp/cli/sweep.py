"""`-m`: a sweep is planned, run and shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcomp.cli.options import console, error_console, opened_store

if TYPE_CHECKING:
    from mcomp.store.sweeps import SweepRecord


def run_sweep(
    recipe: Path, overrides: Sequence[str], imports: Sequence[str], store: Path, fresh: bool
) -> int:
    """Run a sweep, show its jobs side by side, and return the exit code of the first that failed."""
    from mcomp.console import ConsoleReporter
    from mcomp.sweep.jobs import Sweep
    from mcomp.sweep.run import SweepRun

    kept = opened_store(store)
    sweep = Sweep.resolve(recipe, overrides)
    if fresh:
        sweep.set_aside(kept)
    record = SweepRun(sweep, kept, ConsoleReporter(error_console()), imports).execute()
    show_sweep(record)
    for job in record.jobs:
        for name, path in job.files.items():
            click.echo(f"[{job.number}] {name}: {path}")
    return next((job.exit_code for job in record.jobs if job.exit_code), 0)


def plan_sweep(recipe: Path, overrides: Sequence[str], store: Path, as_json: bool) -> None:
    """Show the jobs that a sweep would start, and what they share."""
    from mcomp.report.sweep_plan import sweep_plan_json, sweep_tree
    from mcomp.sweep.jobs import Sweep
    from mcomp.sweep.work import Work

    kept = opened_store(store)
    work = Work(Sweep.resolve(recipe, overrides), kept)
    if as_json:
        click.echo(json.dumps(sweep_plan_json(work), indent=1))
    else:
        console().print(sweep_tree(work))


def show_sweep(record: SweepRecord) -> None:
    """Print the table of a sweep."""
    from mcomp.errors import printable
    from mcomp.report.table import sweep_table

    done = sum(job.status == "done" for job in record.jobs)
    click.echo(printable(f"{record.recipe}  {record.sweep}  {done} of {len(record.jobs)} jobs done"))
    console().print(sweep_table(record.jobs))
