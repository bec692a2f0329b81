"""From a run that is done to the folder that serves one of its files."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from mcomp.data.contract import DataConfig
from mcomp.errors import RecipeError
from mcomp.model.spec import ModelConfig
from mcomp.recipe.nearest import one_of
from mcomp.recipe.schema import Recipe
from mcomp.scheduler import Outcome, Scheduler, exported
from mcomp.serve.write import write_served
from mcomp.task import TaskConfig


def serve_run(scheduler: Scheduler, outcome: Outcome, folder: Path, stage: str | None) -> None:
    """Write the folder of one export, the last if none is named.

    Raises RecipeError if there is no such export, or if the data does not say how an input is prepared.
    """
    exports = dict(scheduler.plan.exports())
    name = stage or (list(exports)[-1] if exports else "")
    if name not in exports:
        raise RecipeError(f"no export '{name}' in the pipeline; it must be {one_of(exports)}")
    step = exports[name]
    row = next(row for row in outcome.ledger.rows if row.key == step.key)
    data = cast(DataConfig, step.recipe.data)
    facts = dict(row.facts.get("data", {}))
    serving = data.serving(facts)
    if serving is None:
        what = f"data of type {data.type} does not say how a file or a text becomes an input"
        raise RecipeError(f"{what}; the exported file itself is {outcome.files[name]}")
    settings = {
        **serving.settings,
        "licence": licence(step.recipe),
        "labels": facts.get("classes"),
        "chooses": cast(TaskConfig, step.recipe.task).chooses,
    }
    write_served(folder, exported(scheduler.found(step), step), row, outcome.ledger, settings, serving.files)


def licence(recipe: Recipe) -> str:
    """Return the licences that the data and the architecture say of what they bring along, "" if none."""
    known = {"data": cast(DataConfig, recipe.data), "model": cast(ModelConfig, recipe.model)}
    return "; ".join(f"{what} {each.type}: {each.licence}" for what, each in known.items() if each.licence)
