"""`mcomp doctor`: what is installed here, and what is known to go wrong with it."""

from __future__ import annotations

from pathlib import Path

import click

from mcomp.cli.options import console, store_option


@click.command()
@store_option
@click.option(
    "--deep", is_flag=True, help="Also import torch and the runtimes, each in a process of its own: slow."
)
def doctor(store: Path, deep: bool) -> int:
    """Say what is installed, on what machine, and what is broken or known to go wrong with that.

    Exits with 1 if something is broken: a library is missing or of a version that mcomp does not work with, a
    plugin cannot be imported, the store cannot be used.

    \b
    Examples
      mcomp doctor
      mcomp doctor --deep --store /data/mcomp
    """
    from mcomp.doctor import Finding, deep_findings, findings, hardware, versions
    from mcomp.report.doctor import doctor_table

    sections, found = [versions(), hardware()], findings(store)
    if deep:
        said = dict(deep_findings())
        sections.append({f"{name} says": text for name, text in said.items() if isinstance(text, str)})
        found = [*(each for each in said.values() if isinstance(each, Finding)), *found]
    console().print(doctor_table(sections, found))
    return int(any(finding.level == "broken" for finding in found))
