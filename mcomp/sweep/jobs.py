"""The jobs of a sweep, each with its overrides and its plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mcomp.errors import Problem, RecipeError
from mcomp.plan import Plan, Step, make_plan
from mcomp.recipe.launchers import require_launcher
from mcomp.recipe.variants import Recipes
from mcomp.scheduler import set_aside
from mcomp.store.store import Store
from mcomp.sweep.listing import blamed, list_jobs


@dataclass(frozen=True)
class Sweep:
    """A sweep before it runs. `options` are Hydra's, for the launcher."""

    recipe: Path
    overrides: Sequence[tuple[str, ...]]
    plans: Sequence[Plan]
    options: Sequence[str]

    @classmethod
    def resolve(cls, recipe: Path, overrides: Sequence[str] = ()) -> Sweep:
        """List the jobs and plan each.

        Raises RecipeError with the mistakes of all of them, each said once, where its value was written.
        """
        recipes = Recipes()
        listing = list_jobs(recipe, overrides, recipes)
        require_launcher(listing.options, listing.launcher)
        plans: list[Plan] = []
        problems: list[Problem] = []
        for job in listing.jobs:
            try:
                plans.append(make_plan(recipes.load(recipe, job), recipes.load, recipes.digest))
            except RecipeError as error:
                problems += error.problems
        if problems:
            raise RecipeError(blamed(problems, listing.swept))
        return cls(recipe, listing.jobs, plans, listing.options)

    @cached_property
    def steps(self) -> Mapping[str, Step]:
        """The steps of all jobs by key, those that several jobs share once."""
        return {step.key: step for plan in reversed(self.plans) for step in plan.steps}

    def content(self, imports: Sequence[str]) -> dict[str, Any]:
        """Return what the jobs need to know, as JSON."""
        jobs = [
            {"overrides": list(overrides), "steps": [step.key for step in plan.steps]}
            for overrides, plan in zip(self.overrides, self.plans, strict=True)
        ]
        return {"recipe": str(self.recipe.absolute()), "imports": list(imports), "jobs": jobs}

    def set_aside(self, store: Store) -> None:
        """Set the results of all jobs aside, so that they are made again."""
        for plan in self.plans:
            set_aside(plan, store)
