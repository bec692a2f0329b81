"""Mistakes in the recipes that a recipe refers to, told together with its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from mcomp.errors import PluginError, Problem, RecipeError
from mcomp.recipe.compose import Composed
from mcomp.recipe.places import COMMAND_LINE, KeyPath, in_order

Load = Callable[[Path, tuple[str, ...]], object]


def nested_problems(composed: Composed, load: Load) -> list[Problem]:
    """Return what is wrong in the recipes that `composed` refers to; `load` reads and validates one.

    The references are found in the plain data: the recipe itself may be wrong. Files that are not there are
    mistakes of the recipe, and a broken plugin is told once everything else is right.
    """
    problems: list[Problem] = []
    seen: set[tuple[Path, tuple[str, ...]]] = set()
    for path, reference in references(composed.data):
        file = Path(os.path.normpath(composed.path.parent / reference["recipe"]))
        overrides = reference.get("overrides", [])
        readable = isinstance(overrides, list) and all(isinstance(each, str) for each in overrides)
        if os.path.isfile(file) and readable and (file, tuple(overrides)) not in seen:
            seen.add((file, tuple(overrides)))
            try:
                with overridden_at(composed, path), suppress(PluginError):
                    load(file, tuple(overrides))
            except RecipeError as error:
                problems += error.problems
    return in_order(problems)


@contextmanager
def overridden_at(composed: Composed, path: KeyPath) -> Iterator[None]:
    """Blame mistakes in overrides on the reference at `path`, which holds them."""
    try:
        yield
    except RecipeError as error:
        if not any(problem.where == COMMAND_LINE for problem in error.problems):
            raise
        where = composed.places.problem((*path, "overrides"), "").where
        raise RecipeError(blamed(error.problems, where)) from error


def blamed(problems: Sequence[Problem], where: str) -> list[Problem]:
    """Return the problems with another place for those of the command line."""
    return [replace(each, where=where) if each.where == COMMAND_LINE else each for each in problems]


def references(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    """Yield what looks like a reference to a recipe in plain data, with its path."""
    if isinstance(value, dict) and isinstance(value.get("recipe"), str):
        yield path, value
    elif isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from references(item, (*path, key))
