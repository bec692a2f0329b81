"""`mcomp diff`: what two recipes or runs say differently."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcomp.cli.complete import complete_recipes_and_runs
from mcomp.cli.options import (
    chosen_run,
    console,
    import_modules,
    import_option,
    opened_store,
    store_option,
)

if TYPE_CHECKING:
    from mcomp.report.diff import Side
    from mcomp.store.store import Store


@click.command()
@click.argument("first", metavar="A", shell_complete=complete_recipes_and_runs)
@click.argument("second", metavar="B", shell_complete=complete_recipes_and_runs)
@import_option
@store_option
def diff(first: str, second: str, imports: tuple[str, ...], store: Path) -> None:
    """Show what A and B say differently; each is a recipe's file or the id of a run.

    Two runs are also shown with what they gave, side by side.

    \b
    Examples
      mcomp diff recipes/resnet_int8.yaml recipes/lenet_int8.yaml
      mcomp diff 20260131-101500-resnet_int8-3fa1 20260131-114500-resnet_int8-90c2
      mcomp diff recipes/resnet_int8.yaml 20260131-101500-resnet_int8-3fa1
    """
    from mcomp.report.diff import diff_table

    import_modules(imports)
    kept = opened_store(store)
    console().print(diff_table(side(first, kept), side(second, kept)))


def side(name: str, store: Store) -> Side:
    """Return a recipe or a run. Raises RecipeError if there is neither, or if it cannot be read any more."""
    from mcomp.recipe.build import load_recipe
    from mcomp.report.diff import Side
    from mcomp.report.history import read_ledger

    if name.endswith(".yaml"):
        return Side(name, load_recipe(Path(name)), None)
    run = chosen_run(store, name)
    return Side(name, load_recipe(run.recipe_file), read_ledger(run))
