"""`mcomp explain`: why each step of a run was a hit or was computed."""

from __future__ import annotations

from pathlib import Path

import click

from mcomp.cli.complete import complete_runs
from mcomp.cli.options import chosen_run, console, opened_store, store_option


@click.command()
@click.argument("run_id", metavar="[RUN]", required=False, shell_complete=complete_runs)
@store_option
def explain(run_id: str | None, store: Path) -> None:
    """Say for each step of a run whether it was a hit or was computed, why, when and where; by default of the
    last run.

    \b
    Examples
      mcomp explain
      mcomp explain 20260131-101500-resnet_int8-3fa1
    """
    from mcomp.report.explain import explained_steps, explained_table

    kept = opened_store(store)
    run = chosen_run(kept, run_id)
    ledger = run.read_ledger()
    console().print(explained_table(ledger, explained_steps(run, ledger, kept)))
