"""`mcomp clean`: make room in a store."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mcomp.cli.options import console, error_console, opened_store, store_option

if TYPE_CHECKING:
    from mcomp.store.clean import Removal
    from mcomp.store.records import Record
    from mcomp.store.store import Store

AGES = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
SIZES = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def quantity(units: dict[str, Any]) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """Return the callback of an option whose value is a whole number and a unit: that many times the unit."""

    def read(context: click.Context, option: click.Parameter, text: str | None) -> Any:
        match = re.fullmatch(r"(\d{1,9}) ?([A-Za-z]+)", text or "")
        if text is not None and (match is None or match[2] not in units):
            raise click.BadParameter(f"{text!r} is not a number with one of the units {', '.join(units)}")
        return int(match[1]) * units[match[2]] if match else None

    return read


@click.command()
@store_option
@click.option(
    "--older-than", metavar="AGE", callback=quantity(AGES), help="What is younger stays (30d, 12h, 2w)."
)
@click.option("--keep-runs", type=click.IntRange(min=0), metavar="N", help="The N newest runs stay.")
@click.option(
    "--larger-than", metavar="SIZE", callback=quantity(SIZES), help="Results that are smaller stay (500MB)."
)
@click.option("--quarantine", is_flag=True, help="Also what was found broken.")
@click.option("--replaced", is_flag=True, help="Also what --fresh set aside.")
@click.option("--yes", is_flag=True, help="Remove it. Without this, it is only listed.")
def clean(
    store: Path,
    older_than: timedelta | None,
    keep_runs: int | None,
    larger_than: int | None,
    quarantine: bool,
    replaced: bool,
    yes: bool,
) -> int:
    """List what can go from the store, and remove it with --yes.

    Results, checkpoints and figures go if no run that is kept refers to them. All runs are kept, unless
    --older-than or --keep-runs lets some go; given both, a run must be old and not among the newest. The jobs
    of a sweep stay and go with it, and count as one. What a running process needs or works on always stays.

    \b
    Examples
      mcomp clean
      mcomp clean --older-than 30d --keep-runs 10
      mcomp clean --larger-than 500MB --quarantine --replaced --yes
    """
    from mcomp.store.clean import Rules, removals
    from mcomp.store.records import records

    kept = opened_store(store)
    known = records(kept)
    rules = Rules(older_than, keep_runs, larger_than or 0, quarantine, replaced)
    going = removals(kept, rules, known, datetime.now(UTC))
    if not going:
        click.echo("nothing can go")
        return 0
    show(going, kept)
    if yes:
        return remove_all(going, kept, known)
    click.echo("nothing was removed: add --yes to remove it")
    return 0


def remove_all(going: Sequence[Removal], store: Store, known: Sequence[Record]) -> int:
    """Remove one after the other, say what could not go, and return the exit code."""
    from mcomp.console import ConsoleReporter
    from mcomp.errors import StoreError
    from mcomp.report.text import size
    from mcomp.store.clean import remove

    code, freed = 0, 0
    reporter = ConsoleReporter(error_console())
    with reporter.progress("removing", len(going)) as bar:
        for removal in going:
            try:
                kept_because = remove(store, removal, known)
            except StoreError as error:
                code, kept_because = StoreError.exit_code, str(error)
            if kept_because:
                reporter.warn(f"{removal.paths[0]} stays: {kept_because}")
            else:
                freed += removal.size_bytes
            bar.advance()
    click.echo(f"removed {size(freed)}")
    return code


def show(going: Sequence[Removal], store: Store) -> None:
    """Print each thing that can go, the largest first, and the sum."""
    from mcomp.report.table import Column, Encodable, Lines
    from mcomp.report.text import NONE, size
    from mcomp.report.text import clean as printable

    columns: list[Column[Removal]] = [
        Column("size", lambda each: size(each.size_bytes)),
        Column("what", lambda each: each.kind, right=False),
        Column("of", lambda each: printable(each.step) or NONE, from_width=80, right=False),
        Column("where", lambda each: where(each, store), right=False),
        Column("why", lambda each: printable(each.reason), right=False),
    ]
    largest_first = sorted(going, key=lambda each: -each.size_bytes)
    console().print(Encodable(Lines(columns, largest_first)))
    click.echo(f"{len(going)} in all, {size(sum(each.size_bytes for each in going))}")


def where(removal: Removal, store: Store) -> str:
    """Return where something lies in the store, keys cut short."""
    from mcomp.report.text import clean as printable

    path = str(removal.paths[0].relative_to(store.root))
    return printable(re.sub(r"([0-9a-f]{12})[0-9a-f]{52}", r"\1…", path))
