"""What the shell offers for an argument that is half typed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import CompletionItem

DEFAULT_STORE = Path(".mcomp")

Items = list[CompletionItem]


def complete_recipes(context: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Return the recipes that start with what is typed; where there are none, the shell offers files."""
    found = [CompletionItem(name) for name in recipes(incomplete)]
    return found or [CompletionItem(incomplete, type="file")]


def recipes(incomplete: str) -> Iterator[str]:
    """Yield the recipes in the folder that is typed and in those right below it, hidden ones left out."""
    typed, slash, start = incomplete.rpartition("/")
    folder = Path(typed + slash)
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*/*.yaml")]):
        name = path.relative_to(folder).as_posix()
        if name.startswith(start) and not any(part.startswith(".") for part in Path(name).parts):
            yield f"{typed}{slash}{name}"


def complete_runs(context: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Return the runs of the store, newest first."""
    from mcomp.errors import StoreError
    from mcomp.store.store import Store

    try:
        runs = Store(Path(context.params.get("store") or DEFAULT_STORE)).runs()
    except StoreError:  # nothing to offer, and no place to say why
        runs = []
    return [CompletionItem(run) for run in runs if run.startswith(incomplete)]


def complete_recipes_and_runs(context: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Return recipes and runs."""
    return [
        *complete_runs(context, parameter, incomplete),
        *complete_recipes(context, parameter, incomplete),
    ]


def complete_stages(context: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Return the names of the installed stages."""
    from mcomp import plugins

    return [CompletionItem(name) for name in plugins.names("stages") if name.startswith(incomplete)]


def complete_recipe_stages(context: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Return the stages in the pipeline of the recipe that is typed before."""
    from mcomp.errors import McompError
    from mcomp.recipe.build import load_recipe

    try:
        names = load_recipe(Path(context.params["recipe"]), ()).recipe.order()
    except (McompError, KeyError):  # as above
        names = ()
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]
