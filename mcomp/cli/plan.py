"""`mcomp plan`: the steps of a recipe, which of them the store has, and why not the others."""

from __future__ import annotations

from pathlib import Path

import click

from mcomp.cli.options import (
    console,
    import_modules,
    import_option,
    opened_store,
    overrides_argument,
    planned,
    quick_option,
    recipe_argument,
    store_option,
    until_option,
)


@click.command()
@recipe_argument
@overrides_argument
@click.option("-m", "--multirun", is_flag=True, help="Show the jobs of a sweep and what they share.")
@click.option("--json", "as_json", is_flag=True, help="With -m: print jobs, steps and waves as JSON.")
@import_option
@store_option
@until_option
@quick_option
def plan(
    recipe: Path,
    overrides: tuple[str, ...],
    multirun: bool,
    as_json: bool,
    imports: tuple[str, ...],
    store: Path,
    until: str | None,
    quick: bool,
) -> None:
    """Show the steps of RECIPE in order, which of them the store already has, and why not the others.

    A step that is to do is compared with the newest earlier result of the same stage: what changed since is
    named, and about how long it takes. Computes nothing.

    \b
    Examples
      mcomp plan recipes/resnet_int8.yaml
      mcomp plan recipes/resnet_int8.yaml stages.prune.target.macs=0.4
      mcomp plan -m recipes/resnet_int8.yaml seed=0,1,2
    """
    from mcomp.report.plan import plan_table

    import_modules(imports)
    if multirun:
        if until or quick:
            raise click.UsageError("--until and --quick are for a single run: leave out -m")
        from mcomp.cli.sweep import plan_sweep

        plan_sweep(recipe, overrides, store, as_json)
        return
    if as_json:
        raise click.UsageError("--json shows a sweep: add -m")
    kept = opened_store(store)
    console().print(plan_table(planned(recipe, overrides, quick, until), kept))
