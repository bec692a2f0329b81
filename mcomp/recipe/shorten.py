"""The same recipe on a part of the data and with little work: a first look, or a rehearsal of every stage.

What is changed is changed in the recipe itself, so that keys, ledgers and stored recipes say what was done:
the data is shortened, and every field that names an amount of work (`mcomp.config.shortens_to`) is cut down.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar, cast

from pydantic import BaseModel

from mcomp.data.contract import DataConfig, Shortened
from mcomp.recipe.build import LoadedRecipe
from mcomp.recipe.schema import Recipe
from mcomp.recipe.walk import mark

QUICK = Shortened(share=0.01, batches=1)
REHEARSAL = Shortened(share=0.0, batches=2)
MARK, LONGEST_NAME = "-quick", 64

Value = TypeVar("Value")


def is_shortened(recipe: Recipe) -> bool:
    """Whether what a recipe makes comes from a part of the data."""
    return cast(DataConfig, recipe.data).shortened is not None


def quick(loaded: LoadedRecipe) -> LoadedRecipe:
    """Return a recipe for a first look. Its name says that the results are none."""
    short = shortened(loaded, QUICK)
    name = short.recipe.name.removesuffix(MARK)[: LONGEST_NAME - len(MARK)] + MARK
    return replace(short, recipe=short.recipe.model_copy(update={"name": name}))


def shortened(loaded: LoadedRecipe, part: Shortened) -> LoadedRecipe:
    """Return a recipe that uses a part of the data, once."""
    recipe = with_little_work(loaded.recipe)
    data = recipe.data.model_copy(update={"shortened": part})
    return replace(loaded, recipe=recipe.model_copy(update={"data": data}))


def with_little_work(value: Value) -> Value:
    """Return a validated value in which every amount of work is cut down."""
    if isinstance(value, BaseModel):
        changes = {name: little(value, name) for name in type(value).model_fields}
        return value.model_copy(update=only_new(value, changes))
    if isinstance(value, dict):
        return cast(Value, {key: with_little_work(item) for key, item in value.items()})
    if isinstance(value, tuple):
        return cast(Value, tuple(map(with_little_work, value)))
    return value


def little(owner: BaseModel, name: str) -> Any:
    """Return the value of a field, cut down if it is an amount of work."""
    limit, value = mark(type(owner).model_fields[name], "shortens_to"), getattr(owner, name)
    return with_little_work(value) if limit is None or value is None else min(value, limit)


def only_new(owner: BaseModel, changes: dict[str, Any]) -> dict[str, Any]:
    """Return the changes that change something, so that a copy does not claim that its defaults were set."""
    return {name: value for name, value in changes.items() if value != getattr(owner, name)}
