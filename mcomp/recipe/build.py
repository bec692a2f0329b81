"""From a recipe file and overrides to a validated `Recipe`: each plugin's own schema, then the rest."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from mcomp import plugins
from mcomp.config import PluginConfig
from mcomp.data.contract import DataConfig
from mcomp.errors import Problem, RecipeError
from mcomp.model.spec import ModelConfig
from mcomp.recipe.checks import check_together
from mcomp.recipe.compose import Composed, compose
from mcomp.recipe.explain import MAX_TOLD, explain
from mcomp.recipe.files import FOLDER
from mcomp.recipe.nearest import did_you_mean, one_of
from mcomp.recipe.nested import nested_problems
from mcomp.recipe.places import KeyPath, in_order
from mcomp.recipe.schema import VERSION, Recipe, RecipeRef
from mcomp.recipe.walk import walk
from mcomp.task import TaskConfig

DEFAULT_TASK = {"type": "classification"}

# What takes the place of required keys that are wrong, so that the rest can be checked.
UNKNOWN = PluginConfig.model_construct(type="")
STAND_INS = {"version": 1, "name": "recipe", "model": UNKNOWN, "data": UNKNOWN, "task": UNKNOWN}


@dataclass(frozen=True)
class LoadedRecipe:
    """A validated recipe, and what is needed to speak about its text."""

    recipe: Recipe
    composed: Composed
    path: Path

    @property
    def unused_stages(self) -> tuple[str, ...]:
        """The stages that the pipeline does not name."""
        return tuple(name for name in self.recipe.stages if name not in self.recipe.order())

    def where(self, path: KeyPath) -> str:
        """Return the place of a key or value as `file:line:column`, or "command line"."""
        return self.composed.places.problem(path, "").where

    def relative(self, file: str) -> Path:
        """Return the path of a file that the recipe names."""
        return Path(os.path.normpath(self.path.parent / file))


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Read, compose and validate the recipe at `path`.

    Raises RecipeError with every mistake found, also in the recipes that a wrong one refers to, and
    PluginError if a plugin that the recipe names is broken.
    """
    return load_inside(path, overrides, ())


def load_inside(path: Path, overrides: Sequence[str], around: tuple[Path, ...]) -> LoadedRecipe:
    """Do what `load_recipe` does for a recipe that those in `around` refer to."""
    path = Path(os.path.normpath(path))
    composed = compose(path, overrides)
    try:
        return LoadedRecipe(build(composed), composed, path)
    except RecipeError as error:
        raise with_nested(error, composed, around) from error


def with_nested(error: RecipeError, composed: Composed, around: tuple[Path, ...] = ()) -> RecipeError:
    """Return the error of a recipe with the mistakes in those that it refers to."""
    inside = (*around, composed.path)
    nested = nested_problems(
        composed, lambda file, overrides: file in inside or load_inside(file, overrides, inside)
    )
    new = [problem for problem in nested if problem not in error.problems]
    return RecipeError([*error.problems, *new]) if new else error


def build(composed: Composed) -> Recipe:
    """Return the validated recipe, its model fitted to its data. Raises RecipeError and PluginError."""
    require_known_version(composed)
    parts = Parts(composed)
    data = parts.resolved()
    problems, wrong = parts.problems, set[str | int]()
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        problems += explain(error, Recipe, composed.data, composed.places)
        wrong = {line["loc"][0] for line in error.errors()}
        right = {key: value for key, value in data.items() if key not in wrong}
        recipe = Recipe.model_validate({**STAND_INS, **right})
    problems += check_together(recipe, composed, list(refs(recipe)), wrong)
    if problems:
        raise RecipeError(in_order(problems, composed.overrides))
    samples, model = cast(DataConfig, recipe.data), cast(ModelConfig, recipe.model)
    task = cast(TaskConfig, recipe.task)
    with placed_at(composed, "data"), plugins.asked("data", samples.type):
        facts = samples.facts()
    with placed_at(composed, "model"), plugins.asked("models", model.type):
        model = model.fitted_to(facts)
    if task.target == "data" and not facts.labelled:
        what = f"{samples.type} has no labels, which {task.type} needs"
        raise RecipeError(composed.places.problem(("task",), what, "write task: {type: fidelity}"))
    with placed_at(composed, "task"), plugins.asked("tasks", task.type):
        task = task.fitted_to(facts)
    return recipe.model_copy(update={"model": model, "task": task})


def require_known_version(composed: Composed) -> None:
    """Raise RecipeError for a recipe of a later language: its other mistakes would be ours."""
    version = composed.data.get("version")
    if type(version) is int and version > VERSION:
        what = f"was made for a newer mcomp: this one reads version {VERSION}"
        raise RecipeError(composed.places.problem(("version",), what, "upgrade mcomp"))


@contextmanager
def placed_at(composed: Composed, key: str) -> Iterator[None]:
    """Raise a RecipeError of a part with its problems placed in the recipe."""
    try:
        yield
    except RecipeError as error:
        paths = [(key, *filter(None, problem.path.split("."))) for problem in error.problems]
        placed = [
            composed.places.problem(path, problem.what, problem.next_step)
            for path, problem in zip(paths, error.problems, strict=True)
        ]
        raise RecipeError(placed) from error


class Parts:
    """The parts of a recipe that a plugin validates. A mistake in one does not hide those in the others."""

    def __init__(self, composed: Composed) -> None:
        self.composed = composed
        self.problems: list[Problem] = []

    def resolved(self) -> dict[str, Any]:
        """Return the recipe's data with a validated configuration for each plugin.

        A part that is wrong is noted and stands in unvalidated, so that the rest can be checked.
        """
        data = {"task": DEFAULT_TASK, **self.composed.data}
        groups: dict[str, plugins.Group] = {"model": "models", "data": "data", "task": "tasks"}
        for key, group in groups.items():
            if key in data:
                data[key] = self.part(group, data[key], (key,))
        stages = data.get("stages")
        if isinstance(stages, dict):
            data["stages"] = {
                name: self.part("stages", value, ("stages", name)) for name, value in stages.items()
            }
        return data

    def part(self, group: plugins.Group, value: Any, path: KeyPath) -> BaseModel:
        """Return the configuration of one plugin."""
        if len(self.problems) >= MAX_TOLD:
            return UNKNOWN
        name = value.get("type") if isinstance(value, dict) else None
        if not isinstance(name, str):
            return self.without_type(group, value, path)
        try:
            schema = plugins.load(group, name)
        except plugins.UnknownPlugin as unknown:
            self.note((*path, "type"), unknown.what, unknown.next_step)
            return UNKNOWN
        try:
            with plugins.asked(group, name):
                return schema.model_validate(value, context={FOLDER: self.composed.path.parent})
        except ValidationError as error:
            self.problems += explain(error, schema, value, self.composed.places, path)
            return schema.model_construct(type=name)

    def without_type(self, group: plugins.Group, value: Any, path: KeyPath) -> BaseModel:
        """Note that a part does not say which plugin it is for."""
        choices = one_of(plugins.names(group))
        if path[0] == "stages" and self.composed.places.override_of(path):
            others = [name for name in self.composed.data["stages"] if name != path[1]]
            near = did_you_mean(str(path[1]), others)
            choices = f"{choices}; {near}" if near else choices
        if not isinstance(value, dict):
            self.note(path, "must be a mapping", f"its `type` is {choices}")
        elif "type" in value:
            self.note((*path, "type"), "must be a name", f"it is {choices}")
        else:
            self.note((*path, "type"), "is missing", f"it is {choices}")
        return UNKNOWN

    def note(self, path: KeyPath, what: str, next_step: str) -> None:
        """Note one problem."""
        self.problems.append(self.composed.places.problem(path, what, next_step))


def refs(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, RecipeRef]]:
    """Yield every reference to another recipe in a validated value, with its path."""
    yield from ((where, part) for where, part in walk(value, path) if isinstance(part, RecipeRef))
