"""`mcomp check`: print all mistakes, run nothing."""

from __future__ import annotations

from pathlib import Path

import click

from mcomp.cli.options import import_modules, import_option, overrides_argument, recipe_argument


@click.command()
@recipe_argument
@overrides_argument
@import_option
def check(recipe: Path, overrides: tuple[str, ...], imports: tuple[str, ...]) -> None:
    """Check RECIPE and every recipe it refers to; print all mistakes at once.

    Keys, types, ranges, choices, files and the order of the stages are checked. Layer names and shapes are
    not: they are checked when a stage starts.
    """
    from mcomp.plan import make_plan
    from mcomp.recipe.build import load_recipe

    import_modules(imports)
    plan = make_plan(load_recipe(recipe, overrides))
    click.echo(f"{recipe}: no mistakes; {len(plan.steps)} steps")
    for name in plan.loaded.unused_stages:
        click.echo(f"  unused stage: {name}")
