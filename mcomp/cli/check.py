"""`mcomp check`: hold a recipe against the real model and data, and print all mistakes; keep nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mcomp.plan import Plan
    from mcomp.recipe.build import LoadedRecipe
    from mcomp.store.store import Store


@click.command()
@recipe_argument
@overrides_argument
@click.option("--quick", is_flag=True, help="Only read the recipes: no data, no model, no rehearsal.")
@import_option
@store_option
def check(
    recipe: Path, overrides: tuple[str, ...], quick: bool, imports: tuple[str, ...], store: Path
) -> None:
    """Check RECIPE and every recipe it refers to; print all mistakes at once.

    Keys, types, ranges, choices, files and the order of the stages come first; those of every job, if the
    recipe has a `sweep:`. Then the data is loaded, the models are built, patterns are matched, and every
    stage is rehearsed on a few samples, exports included: what would fail after hours fails now. Nothing is
    kept but digests of the files that were read.

    \b
    Examples
      mcomp check recipes/resnet_int8.yaml
      mcomp check recipes/resnet_int8.yaml stages.prune.target.macs=0.4
      mcomp check --quick recipes/resnet_int8.yaml
    """
    from mcomp.plan import make_plan
    from mcomp.recipe.build import load_recipe

    import_modules(imports)
    loaded = load_recipe(recipe, overrides)
    kept = opened_store(store)
    plan = make_plan(loaded)
    jobs = sweep_jobs(recipe, overrides) if loaded.recipe.sweep is not None else 0
    report = None if quick else bound(loaded, plan, kept)
    click.echo(f"{recipe}: no mistakes; {len(plan.steps)} steps")
    for name in loaded.unused_stages:
        click.echo(f"  unused stage: {name}")
    if jobs:
        click.echo(f"  sweep: {jobs} jobs, by run -m")
    if report is None:
        click.echo("  open: whether data, models and stages fit each other; check without --quick says it")
    else:
        console().print(report)


def sweep_jobs(recipe: Path, overrides: tuple[str, ...]) -> int:
    """Return how many jobs the recipe's own sweep has. Raises RecipeError with the mistakes of all."""
    from mcomp.sweep.jobs import Sweep

    return len(Sweep.resolve(recipe, overrides).plans)


def bound(loaded: LoadedRecipe, plan: Plan, store: Store) -> RenderableType:
    """Return the report of a check against the real model and data. Raises RecipeError."""
    from mcomp.check.recipe import check as check_recipe
    from mcomp.check.report import findings_report

    with error_console().status("") as status:
        return findings_report(check_recipe(loaded, plan, store, status.update))
