"""`mcomp runs`: the runs of a store."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import click

from mcomp.cli.options import console, opened_store, store_option


@click.command()
@store_option
@click.option("-n", "number", type=click.IntRange(min=1), default=20, show_default=True, help="How many.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects.")
def runs(store: Path, number: int, as_json: bool) -> None:
    """List the runs in the store, newest first: how each ended, what it did, and what it gave.

    \b
    Examples
      mcomp runs
      mcomp runs -n 100 --json
    """
    from mcomp.report.history import all_runs
    from mcomp.report.runs import run_line, runs_table

    lines = [run_line(run) for run in islice(all_runs(opened_store(store)), number)]
    if as_json:
        click.echo(json.dumps([line.model_dump(mode="json") for line in lines], indent=2))
    elif lines:
        console().print(runs_table(lines))
    else:
        click.echo(f"{store} has no run yet; start one with mcomp run, or choose another with --store")
