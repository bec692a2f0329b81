"""A part of a pipeline: `run --until STAGE` and `--from STAGE`."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from mcomp.errors import Problem, RecipeError
from mcomp.recipe.build import LoadedRecipe
from mcomp.recipe.nearest import did_you_mean, one_of
from mcomp.recipe.places import COMMAND_LINE
from mcomp.recipe.schema import Require
from mcomp.stage import StageConfig


def up_to(loaded: LoadedRecipe, stage: str) -> LoadedRecipe:
    """Return a recipe whose pipeline ends with `stage`.

    `require` is about the file of the last export: where that is cut off, nothing is required. Raises
    RecipeError if the pipeline has no such stage.
    """
    require_stage(loaded, stage, "--until")
    recipe, order = loaded.recipe, loaded.recipe.order()
    kept, dropped = order[: order.index(stage) + 1], order[order.index(stage) + 1 :]
    judged = not any(cast(StageConfig, recipe.stages[name]).exports for name in dropped)
    require = recipe.require if judged else Require()
    return replace(loaded, recipe=recipe.model_copy(update={"pipeline": kept, "require": require}))


def require_stage(loaded: LoadedRecipe, stage: str, option: str) -> None:
    """Raise RecipeError, blamed on an option of the command line, if the pipeline has no such stage."""
    order = loaded.recipe.order()
    if stage in order:
        return
    if stage in loaded.unused_stages:
        what, near = f"the stage '{stage}' is not in the pipeline", f"it holds {', '.join(order)}"
    else:
        what = f"there is no stage '{stage}' in the pipeline"
        near = did_you_mean(stage, order) or f"it must be {one_of(order)}"
    raise RecipeError(Problem(COMMAND_LINE, f"{option} {stage}", what, near))
