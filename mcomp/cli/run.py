"""`mcomp run`: do what a recipe says, or sweep over it."""

from __future__ import annotations

from pathlib import Path

import click

from mcomp.cli.options import (
    error_console,
    import_modules,
    import_option,
    opened_store,
    overrides_argument,
    recipe_argument,
    store_option,
)
from mcomp.cli.report import show_ledger


@click.command()
@recipe_argument
@overrides_argument
@click.option("-m", "--multirun", is_flag=True, help="Sweep: each of the comma-separated values is a job.")
@import_option
@store_option
@click.option(
    "--fresh", is_flag=True, help="Compute again what the store has; the old results are set aside."
)
def run(
    recipe: Path,
    overrides: tuple[str, ...],
    multirun: bool,
    imports: tuple[str, ...],
    store: Path,
    fresh: bool,
) -> int:
    """Run RECIPE. What the store already has is not computed again.

    \b
    Examples
      mcomp run recipes/resnet_int8.yaml
      mcomp run recipes/resnet_int8.yaml 'pipeline=[distill,qat,export]'
      mcomp run -m recipes/resnet_int8.yaml seed=0,1,2
    """
    import_modules(imports)
    if multirun:
        from mcomp.cli.sweep import run_sweep

        return run_sweep(recipe, overrides, imports, store, fresh)
    from mcomp.console import ConsoleReporter
    from mcomp.plan import make_plan
    from mcomp.recipe.build import load_recipe
    from mcomp.scheduler import Scheduler, set_aside

    made, kept = make_plan(load_recipe(recipe, overrides)), opened_store(store)
    if fresh:
        set_aside(made, kept)
    if made.recipe.sweep is not None:
        click.echo("the recipe's `sweep:` is not used; add -m to run all of its jobs", err=True)
    outcome = Scheduler(made, kept, ConsoleReporter(error_console())).execute()
    show_ledger(outcome.ledger)
    for name, path in outcome.files.items():
        click.echo(f"{name}: {path}")
    return outcome.exit_code
