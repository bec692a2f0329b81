"""What must hold between the parts of a recipe, beyond each part's own schema."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import cast

from mcomp.errors import Problem
from mcomp.model.spec import ModelConfig
from mcomp.recipe.compose import Composed
from mcomp.recipe.load import similar_files
from mcomp.recipe.nearest import did_you_mean, one_of
from mcomp.recipe.places import KeyPath
from mcomp.recipe.schema import Bound, Recipe, RecipeRef, TimedBound
from mcomp.stage import StageConfig

Reference = tuple[KeyPath, RecipeRef]


def check_together(
    recipe: Recipe, composed: Composed, references: Sequence[Reference], wrong: Collection[str | int] = ()
) -> list[Problem]:
    """Return what is wrong between the parts of a recipe; its keys in `wrong` hold stand-ins."""
    checks = Checks(recipe, composed)
    problems = list(checks.files(references))
    if "stages" not in wrong:
        problems += checks.pipeline()
    if not {"stages", "measure"} & set(wrong):
        problems += checks.bounds()
    return problems


class Checks:
    """The checks of one recipe."""

    def __init__(self, recipe: Recipe, composed: Composed) -> None:
        self.recipe = recipe
        self.places = composed.places
        self.folder = composed.path.parent
        self.given = composed.data

    def pipeline(self) -> Iterator[Problem]:
        """Yield names that are no stage, and stages that stand twice."""
        if not self.recipe.stages:
            if self.given.get("stages") is not None or not did_you_mean("stages", self.given):
                yield self.places.problem(("stages",), "holds no stage", "a recipe does at least one thing")
            return
        if self.given.get("pipeline") == []:
            yield self.places.problem(("pipeline",), "is empty", "name the stages to run, or remove it")
        seen: set[str] = set()
        for index, name in enumerate(self.recipe.pipeline):
            path: KeyPath = ("pipeline", index)
            if name not in self.recipe.stages:
                near = self.deleted(name) or did_you_mean(name, self.recipe.stages)
                near = near or f"it must be {one_of(self.recipe.stages)}"
                yield self.places.problem(path, f"there is no stage '{name}'", near)
            elif name in seen:
                next_step = "give the second one a name of its own under `stages`"
                yield self.places.problem(path, f"the stage '{name}' is in the pipeline twice", next_step)
            seen.add(name)

    def deleted(self, name: str) -> str:
        """Return what to do about a stage that an override deleted, or ""."""
        texts = [each.text for each in self.places.overrides if each.path == ("stages", name)]
        return f"{texts[-1]} deleted it; leave it out of pipeline instead" if texts else ""

    def bounds(self) -> Iterator[Problem]:
        """Yield bounds of `require` that nothing could be held against."""
        stages = {name: self.recipe.stages.get(name) for name in self.recipe.order()}
        if not all(isinstance(stage, StageConfig) for stage in stages.values()):
            return  # which stages export is not known
        bounds = list(self.each_bound())
        exports = [name for name, stage in stages.items() if stage and cast(StageConfig, stage).exports]
        yield from self.after_exports(list(stages), exports)
        if bounds and not exports:
            what = "needs an exported file, and no stage of the pipeline exports one"
            yield self.places.problem(("require",), what, "add a stage of type export.onnx", at_key=True)
        for path, bound in bounds:
            if exports and bound.of is not None and bound.of not in exports:
                near = did_you_mean(bound.of, exports) or f"it must be {one_of(exports)}"
                yield self.places.problem((*path, "of"), f"no export '{bound.of}' in the pipeline", near)
            sizes = self.recipe.measure.batch_sizes
            if isinstance(bound, TimedBound) and bound.batch_size not in sizes:
                what = f"batch size {bound.batch_size} is not measured"
                next_step = f"add it to measure.batch_sizes, which holds {', '.join(map(str, sizes))}"
                yield self.places.problem((*path, "batch_size"), what, next_step)

    def after_exports(self, order: list[str], exports: list[str]) -> Iterator[Problem]:
        """Yield the stages whose work is in no file, though the pipeline exports one."""
        last = order.index(exports[-1]) if exports else len(order)
        for index, name in enumerate(order[last + 1 :], start=last + 1):
            in_pipeline = bool(self.recipe.pipeline)
            path: KeyPath = ("pipeline", index) if in_pipeline else ("stages", name)
            what = f"'{name}' comes after the last export, so no file holds what it does"
            yield self.places.problem(path, what, f"put {exports[-1]} last", at_key=not in_pipeline)

    def each_bound(self) -> Iterator[tuple[KeyPath, Bound]]:
        """Yield every bound with its path; one that was given without a list has no index in its path."""
        given = self.given.get("require") or {}
        for name in type(self.recipe.require).model_fields:
            for index, bound in enumerate(getattr(self.recipe.require, name)):
                in_list = isinstance(given.get(name), list)
                yield ("require", name, *([index] if in_list else [])), bound

    def files(self, references: Sequence[Reference]) -> Iterator[Problem]:
        """Yield files that the recipe names and that are not there."""
        for path, reference in references:
            yield from self.file((*path, "recipe"), reference.recipe)
        checkpoint = getattr(cast(ModelConfig, self.recipe.model), "checkpoint", None)
        if isinstance(checkpoint, str):
            yield from self.file(("model", "checkpoint"), checkpoint)

    def file(self, path: KeyPath, name: str) -> Iterator[Problem]:
        """Yield a problem if a path, relative to the recipe's folder, is no file."""
        file = Path(self.folder / name)
        if path[-1] == "checkpoint" and file.suffix == ".yaml":
            yield self.places.problem(path, "is a recipe, not a model", f"write {{recipe: {name}}}")
        elif os.path.isdir(file):
            yield self.places.problem(path, f"{file} is a folder", "name a file in it")
        elif not os.path.isfile(file):
            yield self.places.problem(path, f"there is no file {file}", similar_files(file))
