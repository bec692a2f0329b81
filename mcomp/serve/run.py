"""From a run that is done to the folder that serves one of its files."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from mcomp.data.contract import DataConfig
from mcomp.errors import RecipeError
from mcomp.model.spec import ModelConfig
from mcomp.plan import Plan
from mcomp.recipe.nearest import one_of
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
        "licence": licences(scheduler.plan),
        "labels": facts.get("classes"),
        "chooses": cast(TaskConfig, step.recipe.task).chooses,
    }
    write_served(folder, exported(scheduler.found(step), step), row, outcome.ledger, settings, serving.files)


def licences(plan: Plan) -> str:
    """Return what the data and the models of all steps say of their licences, each once, "" if none."""
    data = [cast(DataConfig, step.recipe.data) for step in plan.steps]
    models = [cast(ModelConfig, step.recipe.model) for step in plan.steps]
    said = [f"data {each.type}: {each.licence}" for each in data if each.licence]
    said += [f"model {each.type}: {each.licence}" for each in models if each.licence]
    return "; ".join(dict.fromkeys(said))
