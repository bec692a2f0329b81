"""`mcomp stages`: the installed stages, and the manual of one."""

from __future__ import annotations

import click

from mcomp.cli.complete import complete_stages
from mcomp.cli.options import console, import_modules, import_option


@click.command()
@click.argument("name", required=False, shell_complete=complete_stages)
@import_option
def stages(name: str | None, imports: tuple[str, ...]) -> None:
    """List the installed stages, or print the fields, defaults and a sample of one.

    \b
    Examples
      mcomp stages
      mcomp stages prune.channels
    """
    from mcomp.report.stages import stage_list, stage_manual

    import_modules(imports)
    console().print(stage_manual(name) if name else stage_list())
