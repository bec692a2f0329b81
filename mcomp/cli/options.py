"""What several commands share: arguments, options, the consoles, and the import of a person's own modules."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcomp.cli.complete import DEFAULT_STORE, complete_recipes

if TYPE_CHECKING:
    from rich.console import Console

    from mcomp.plan import Plan
    from mcomp.recipe.build import LoadedRecipe
    from mcomp.store.runs import Run
    from mcomp.store.store import Store

recipe_argument = click.argument("recipe", type=click.Path(path_type=Path), shell_complete=complete_recipes)
overrides_argument = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
import_option = click.option(
    "--import",
    "imports",
    multiple=True,
    metavar="MODULE",
    help="Import a module of yours that registers models, data or stages.",
)
quick_option = click.option(
    "--quick", is_flag=True, help="A first look: 1 % of the data, one epoch. Its results are kept apart."
)
until_option = click.option("--until", metavar="STAGE", help="Stop after this stage of the pipeline.")
store_option = click.option(
    "--store",
    type=click.Path(path_type=Path),
    envvar="MCOMP_STORE",
    default=DEFAULT_STORE,
    show_default=True,
    help="Where results are kept.",
)


def console() -> Console:
    """Return the console for what was asked for."""
    from rich.console import Console

    return Console()


def error_console() -> Console:
    """Return the console for how the work goes on: it stays out of what is piped."""
    from rich.console import Console

    return Console(stderr=True)


def opened_store(path: Path) -> Store:
    """Return the store at a path; what is found broken in it is told beside how the work goes on.

    For the rest of the command it remembers the digests of the files that are read.
    """
    from mcomp.console import ConsoleReporter
    from mcomp.store.digests import digests_in
    from mcomp.store.store import Store

    store = Store(path, on_problem=ConsoleReporter(error_console()).warn)
    click.get_current_context().with_resource(digests_in(store))
    return store


def chosen_run(store: Store, run_id: str | None) -> Run:
    """Return the run that was named, or the last one. Raises RecipeError, with the nearest id."""
    from mcomp.errors import RecipeError
    from mcomp.recipe.nearest import did_you_mean

    runs = store.runs()
    if not runs:
        where = f"{store.root} has no run yet"
        raise RecipeError(f"{where}; start one with mcomp run, or choose another with --store")
    if run_id is not None and run_id not in runs:
        near = did_you_mean(run_id, runs) or f"the last one is {runs[0]}"
        raise RecipeError(f"{store.root} has no run {run_id}; {near}")
    return store.run(run_id or runs[0])


def planned(recipe: Path, overrides: tuple[str, ...], quick: bool = False, until: str | None = None) -> Plan:
    """Return the plan of a recipe: of a part of its pipeline, or of a first look on a part of the data."""
    from mcomp.plan import make_plan
    from mcomp.recipe.build import load_recipe
    from mcomp.recipe.partial import up_to
    from mcomp.recipe.shorten import quick as shortened

    def load(path: Path, overrides: Sequence[str]) -> LoadedRecipe:
        loaded = load_recipe(path, overrides)
        return shortened(loaded) if quick else loaded

    loaded = load(recipe, overrides)
    return make_plan(loaded if until is None else up_to(loaded, until), load)


def import_modules(names: tuple[str, ...]) -> None:
    """Import the modules that the person named on the command line."""
    if names:
        from mcomp.plugins import import_module

        sys.path.insert(0, os.getcwd())
        for name in names:
            import_module(name)
