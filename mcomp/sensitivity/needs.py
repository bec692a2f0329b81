"""The steps before a stage: what has to be in the store before the stage's parts can be measured."""

from __future__ import annotations

from dataclasses import replace

from mcomp.errors import Problem, RecipeError
from mcomp.plan import Plan, Step, needed
from mcomp.recipe.partial import require_stage
from mcomp.recipe.places import COMMAND_LINE
from mcomp.recipe.schema import Require


def measurable(plan: Plan, stage: str) -> Step:
    """Return the step of a stage of the pipeline. Raises RecipeError if it has no parts to measure alone."""
    require_stage(plan.loaded, stage, "STAGE")
    step = plan.step(plan.pipeline[stage])
    if step.config.varies is None:
        what = f"{step.config.type} has no parts whose cost can be measured alone"
        others = [name for name, key in plan.pipeline.items() if plan.step(key).config.varies]
        near = f"choose {' or '.join(others)}" if others else "choose a stage that quantizes or prunes"
        raise RecipeError(Problem(COMMAND_LINE, f"STAGE {stage}", what, near))
    return step


def before(plan: Plan, step: Step) -> Plan:
    """Return the plan of the steps whose models a step uses; nothing is exported or required."""
    recipe = plan.recipe.model_copy(update={"require": Require()})
    steps = needed({each.key: each for each in plan.steps}, step.needs())
    keys = {each.key for each in steps}
    pipeline = {name: key for name, key in plan.pipeline.items() if key in keys}
    return replace(
        plan, loaded=replace(plan.loaded, recipe=recipe), steps=steps, pipeline=pipeline, baselines={}
    )
