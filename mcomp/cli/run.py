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
    planned,
    quick_option,
    recipe_argument,
    store_option,
    until_option,
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
@click.option(
    "--from",
    "start",
    metavar="STAGE",
    help="Compute this stage again, and what follows; keep what is before.",
)
@until_option
@quick_option
def run(
    recipe: Path,
    overrides: tuple[str, ...],
    multirun: bool,
    imports: tuple[str, ...],
    store: Path,
    fresh: bool,
    start: str | None,
    until: str | None,
    quick: bool,
) -> int:
    """Run RECIPE. What the store already has is not computed again.

    \b
    Examples
      mcomp run recipes/resnet_int8.yaml
      mcomp run recipes/resnet_int8.yaml 'pipeline=[distill,qat,export]'
      mcomp run recipes/resnet_int8.yaml --quick
      mcomp run recipes/resnet_int8.yaml --until prune
      mcomp run recipes/resnet_int8.yaml --from qat
      mcomp run -m recipes/resnet_int8.yaml seed=0,1,2
    """
    import_modules(imports)
    if multirun:
        if start or until or quick:
            raise click.UsageError("--from, --until and --quick are for a single run: leave out -m")
        from mcomp.cli.sweep import run_sweep

        return run_sweep(recipe, overrides, imports, store, fresh)
    from mcomp.console import ConsoleReporter
    from mcomp.scheduler import Scheduler, set_aside

    kept = opened_store(store)
    made = planned(recipe, overrides, quick, until)
    if start is not None:
        for step in made.onward(start):
            kept.set_aside(step.key)
    if fresh:
        set_aside(made, kept)
    if made.recipe.sweep is not None:
        click.echo("the recipe's `sweep:` is not used; add -m to run all of its jobs", err=True)
    outcome = Scheduler(made, kept, ConsoleReporter(error_console())).execute()
    show_ledger(outcome.ledger)
    for name, path in outcome.files.items():
        click.echo(f"{name}: {path}")
    return outcome.exit_code
