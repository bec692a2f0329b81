"""`mcomp verify`: is everything in a store still what was written?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcomp.cli.options import console, error_console, opened_store, store_option

if TYPE_CHECKING:
    from mcomp.report.table import Column
    from mcomp.store.verify import Finding

BAD = ("broken", "unreadable")


@click.command()
@store_option
@click.option("--dry-run", is_flag=True, help="Only say what is broken; move nothing.")
def verify(store: Path, dry_run: bool) -> int:
    """Read everything in the store again and compare it with what was written.

    What is broken is moved to the store's quarantine, never deleted, and made again by the next run that
    needs it. Runs may be under way meanwhile. The exit code is 6 if something was broken or unreadable.

    \b
    Examples
      mcomp verify
      mcomp verify --store /data/mcomp --dry-run
    """
    from mcomp.console import ConsoleReporter
    from mcomp.errors import StoreError
    from mcomp.store.verify import examined, items

    kept = opened_store(store)
    everything = items(kept)
    findings = []
    with ConsoleReporter(error_console()).progress("verifying", len(everything)) as bar:
        for item in everything:
            findings.append(examined(kept, item, move=not dry_run))
            bar.advance()
    show(findings)
    return StoreError.exit_code if any(each.state in BAD for each in findings) else 0


def show(findings: list[Finding]) -> None:
    """Print how many of each kind are how, and each that is not well."""
    from mcomp.report.table import Column, Encodable, Lines
    from mcomp.report.text import clean

    counts: dict[str, Counter[str]] = {}
    for finding in findings:
        counts.setdefault(finding.item.kind, Counter())[finding.state] += 1
    columns: list[Column[str]] = [Column("", str, right=False)]
    columns += [column(state, counts) for state in ("ok", *BAD, "in use")]
    console().print(Encodable(Lines(columns, counts)) if counts else "nothing is kept here yet")
    for finding in findings:
        if finding.state in BAD:
            named = "" if str(finding.item.path) in finding.problem else f"{finding.item.path}: "
            moved = f"; moved to {finding.moved}" if finding.moved else ""
            click.echo(clean(f"{named}{finding.problem}{moved}"))
    if any(finding.moved for finding in findings):
        click.echo("what was moved is made again by the next run that needs it")


def column(state: str, counts: Mapping[str, Counter[str]]) -> Column[str]:
    """Return the column that says how many of each kind are in a state."""
    from mcomp.report.table import Column

    return Column(state, lambda kind: str(counts[kind][state]))
