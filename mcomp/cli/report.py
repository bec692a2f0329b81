"""`mcomp report`: what a run did and gave."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcomp.cli.options import console, opened_store, store_option

if TYPE_CHECKING:
    from mcomp.store.ledger import Ledger


@click.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@store_option
@click.option("--json", "as_json", is_flag=True, help="Print the ledger as JSON.")
@click.option("--html", type=click.Path(path_type=Path), help="Write one self-contained page to this file.")
def report(run_id: str | None, store: Path, as_json: bool, html: Path | None) -> None:
    """Show what a run did and what it gave; the last one by default.

    \b
    Examples
      mcomp report
      mcomp report --html report.html
      mcomp report 20260131-101500-resnet_int8-3fa1 --json
    """
    from mcomp.errors import RecipeError

    kept = opened_store(store)
    runs = kept.runs()
    if not runs:
        raise RecipeError(f"{store} has no run yet; start one with mcomp run, or choose another with --store")
    if run_id is not None and run_id not in runs:
        raise RecipeError(f"{store} has no run {run_id}; the last one is {runs[0]}")
    ledger = kept.run(run_id or runs[0]).read_ledger()
    if html is not None:
        write_page(ledger, html)
    elif as_json:
        click.echo(ledger.model_dump_json(indent=2))
    else:
        show_ledger(ledger)


def write_page(ledger: Ledger, path: Path) -> None:
    """Write the report as one page. Raises RecipeError if the file cannot be written."""
    from mcomp.errors import RecipeError
    from mcomp.report.html import render

    page = render(ledger)
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"cannot write {path}: {error.strerror}; name another file with --html") from error
    click.echo(f"wrote {path}")


def show_ledger(ledger: Ledger) -> None:
    """Print the table of a run."""
    from mcomp.report.table import ledger_table

    console().print(ledger_table(ledger))
