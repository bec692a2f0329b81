"""Every stage of a pipeline for real, but on a few samples: what would fail after hours fails now."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mcomp.console import SilentReporter
from mcomp.errors import Problem, RecipeError, StageError
from mcomp.plan import Origin, Plan, Step, make_plan
from mcomp.recipe.build import LoadedRecipe, load_recipe
from mcomp.recipe.places import KeyPath
from mcomp.recipe.shorten import REHEARSAL, shortened
from mcomp.recipe.walk import walk
from mcomp.scheduler import Scheduler, is_unforeseen


@dataclass
class Notes(SilentReporter):
    """Keeps the warnings of a rehearsal, and says through `on_step` what is being done."""

    on_step: Callable[[str], None]
    warnings: list[str] = field(default_factory=list)

    def step_started(self, step: Step, number: int, total: int) -> None:
        self.on_step(f"{number}/{total} {step.stage}")

    def warn(self, message: str) -> None:
        if message not in self.warnings:
            self.warnings.append(message)


def short_plan(loaded: LoadedRecipe) -> Plan:
    """Return the plan of a recipe, and of all that it refers to, on a few samples."""

    def load(path: Path, overrides: Sequence[str]) -> LoadedRecipe:
        return shortened(load_recipe(path, overrides), REHEARSAL)

    return make_plan(shortened(loaded, REHEARSAL), load)


def rehearsal_plan(plan: Plan) -> Plan:
    """Return the plan of a recipe's own pipeline alone.

    What it only refers to (teachers, the baseline) is not made: the model that each of them started from
    stands in, mostly with fresh weights. An export of the baseline is left out where the pipeline exports a
    model of the same architecture: it would cost as much as all other stages together, and tell nothing new.
    """
    baselines = {name: baseline_export(plan, name) for name in plan.baselines}
    own = own_steps(plan, baselines.values())

    def stand_in(source: str | Origin) -> str | Origin:
        return source if isinstance(source, str) and source in own else origin(plan, source)

    steps = [
        replace(
            step,
            source=stand_in(step.source),
            models={ref: stand_in(source) for ref, source in step.models.items()},
            target=step.target and stand_in(step.target),
        )
        for step in plan.steps
        if step.key in own
    ]
    return replace(plan, steps=tuple(steps), baselines=baselines)


def baseline_export(plan: Plan, name: str) -> str:
    """Return the key of what a rehearsal takes for the baseline's file: the pipeline's own, where that tells
    whether the baseline can be exported.
    """
    own, baseline = plan.step(plan.pipeline[name]), plan.step(plan.baselines[name])
    same = type(origin(plan, own.source).spec) is type(origin(plan, baseline.source).spec)
    return own.key if same else baseline.key


def own_steps(plan: Plan, baselines: Iterable[str]) -> set[str]:
    """Return the keys of the pipeline's steps, of those that make the model it starts from, and of those in
    `baselines`.
    """
    own: set[str] = set()
    for key in plan.pipeline.values():
        source: str | Origin = key
        while isinstance(source, str):
            own.add(source)
            source = plan.step(source).source
    return own | set(baselines)


def origin(plan: Plan, source: str | Origin) -> Origin:
    """Return what the first step before a model started from."""
    while isinstance(source, str):
        source = plan.step(source).source
    return source


def rehearse(scheduler: Scheduler) -> None:
    """Do every step and measure the exports. Raises RecipeError at the place of the stage that fails."""
    try:
        scheduler.execute()
    except StageError as error:
        raise RecipeError(blame(scheduler.plan, error)) from error


def blame(plan: Plan, error: StageError) -> Problem:
    """Return a stage's error as a problem of the recipe, at the value to blame or at the stage."""
    exports = (step for _, step in reversed(plan.exports()))  # measuring them is nobody's step
    step = next((step for step in plan.steps if step.label == error.step), None) or next(exports)
    inside = place_of(error.about, step.config)
    what = said(error)
    if step.key in plan.baselines.values() and step.key not in plan.pipeline.values():
        what = f"{what} (in the {step.stage})"
    places = step.loaded.composed.places
    return places.problem((*step.path, *inside), what, raised_in(error), at_key=not inside)


def said(error: StageError) -> str:
    """Return what a stage's error says, in one line."""
    what = ": ".join(filter(None, (error.module, error.what)))
    return what.strip().splitlines()[0]


def place_of(about: object, config: Any) -> KeyPath:
    """Return where a value stands in a stage's configuration, or that it stands nowhere."""
    if about is None:
        return ()
    return next((path for path, part in walk(config) if type(part) is type(about) and part == about), ())


def raised_in(error: StageError) -> str:
    """Return the file and line of an error that nobody raised on purpose, or ""."""
    if not is_unforeseen(error) or error.__cause__ is None:
        return ""
    *_, last = traceback.extract_tb(error.__cause__.__traceback__)
    return f"raised in {last.filename}:{last.lineno}"
