"""`mcomp plan`: the steps of a recipe, and which of them the store has."""

from __future__ import annotations

from pathlib import Path

import click

from mcomp.cli.options import (
    console,
    import_modules,
    import_option,
    opened_store,
    overrides_argument,
    recipe_argument,
    store_option,
)


@click.command()
@recipe_argument
@overrides_argument
@import_option
@store_option
def plan(recipe: Path, overrides: tuple[str, ...], imports: tuple[str, ...], store: Path) -> None:
    """Show the steps of RECIPE in order, and which of them the store already has. Computes nothing."""
    from mcomp.plan import make_plan
    from mcomp.recipe.build import load_recipe
    from mcomp.report.plan import plan_table

    import_modules(imports)
    made = make_plan(load_recipe(recipe, overrides))
    console().print(plan_table(made, opened_store(store)))
