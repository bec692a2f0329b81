"""`mcomp run`: do what a recipe says, or sweep over it."""

from __future__ import annotations

from pathlib import Path

import click

from mcomp.cli.options import (
    console,
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
        return run_sweep(recipe, overrides, imports, store, fresh)
    from mcomp.console import ConsoleReporter
    from mcomp.plan import make_plan
    from mcomp.recipe.build import load_recipe
    from mcomp.scheduler import Scheduler, set_aside

    made, kept = make_plan(load_recipe(recipe, overrides)), opened_store(store)
    if fresh:
        set_aside(made, kept)
    outcome = Scheduler(made, kept, ConsoleReporter(error_console())).execute()
    show_ledger(outcome.ledger)
    for name, path in outcome.files.items():
        click.echo(f"{name}: {path}")
    return outcome.exit_code


def run_sweep(
    recipe: Path, overrides: tuple[str, ...], imports: tuple[str, ...], store: Path, fresh: bool
) -> int:
    """Run a sweep, show its jobs side by side, and return the exit code of the first that failed."""
    from mcomp.console import ConsoleReporter
    from mcomp.report.table import sweep_table
    from mcomp.sweep import Sweep, ledgers

    sweep, kept = Sweep.resolve(recipe, overrides), opened_store(store)
    if fresh:
        sweep.fresh(kept)
    results = sweep.run(kept, ConsoleReporter(error_console()), imports=imports)
    console().print(sweep_table(ledgers(results, kept)))
    for result in results:
        for name, path in result.files.items():
            click.echo(f"{' '.join(result.overrides)}: {name}: {path}")
        if result.error:
            click.echo(f"{' '.join(result.overrides)}: {result.error}", err=True)
    return next((result.exit_code for result in results if result.exit_code), 0)
