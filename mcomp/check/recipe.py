"""Check one recipe: bind it, rehearse it, and throw away everything that was written for that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from mcomp.check.binding import Binding, identity
from mcomp.check.estimate import estimate, require_room
from mcomp.check.findings import Estimate, Findings
from mcomp.check.rehearsal import Notes, origin, rehearsal_plan, rehearse, short_plan
from mcomp.check.samples import missing_samples
from mcomp.data.contract import SplitName
from mcomp.data.shortened import ShortenedData
from mcomp.errors import RecipeError
from mcomp.plan import Plan, Step
from mcomp.recipe.build import LoadedRecipe
from mcomp.recipe.places import in_order
from mcomp.scheduler import Scheduler
from mcomp.store.store import Store
from mcomp.store.temporary import temporary_store


def check(loaded: LoadedRecipe, plan: Plan, store: Store, on_step: Callable[[str], None]) -> Findings:
    """Return what was seen of a recipe whose `plan` would run in `store`, which is only read.

    `on_step` is told what is being done. Raises RecipeError with the places of what would fail.
    """
    notes = Notes(on_step)
    with temporary_store("mcomp-check") as scratch:
        rehearsal = Rehearsal.of(loaded, scratch, notes)
        on_step("data and models")
        rehearsal.binding.bind()
        missing = in_order(missing_samples(plan, rehearsal.binding.calibration))
        if missing:
            raise RecipeError(missing)
        rehearse(rehearsal.scheduler)
        needs = rehearsal.estimate(plan, store)
    require_room(needs, store)
    return rehearsal.findings(plan, needs, notes)


@dataclass(frozen=True)
class Rehearsal:
    """A rehearsal and what was bound for it."""

    scheduler: Scheduler
    binding: Binding

    @classmethod
    def of(cls, loaded: LoadedRecipe, store: Store, notes: Notes) -> Rehearsal:
        """Plan a rehearsal in a store of its own."""
        short = short_plan(loaded)
        scheduler = Scheduler(rehearsal_plan(short), store, notes)
        return cls(scheduler, Binding(short, scheduler.executor))

    def estimate(self, plan: Plan, store: Store) -> Estimate:
        """Return what a run of the real plan will need."""
        rehearsed = {place(step): self.written(step) for step in self.scheduler.plan.steps}

        def size_bytes(step: Step) -> int:
            """What was not rehearsed ends about as large as the model that it starts from."""
            model = self.binding.models[identity(origin(plan, step.source))]
            return rehearsed.get(place(step), model.size_bytes)

        return estimate(plan, store, size_bytes, self.scheduler.rows)

    def written(self, step: Step) -> int:
        """Return the size of a result of the rehearsal."""
        files = self.scheduler.found(step).manifest.files.values()
        return sum(file.size for file in files)

    def findings(self, plan: Plan, needs: Estimate, notes: Notes) -> Findings:
        """Return everything that was seen."""
        models = tuple(self.binding.models.values())
        rehearsed = {place(step) for step in self.scheduler.plan.steps}
        exports = set(plan.baselines.values())
        left = [step for step in plan.steps if place(step) not in rehearsed]
        untrained = tuple(step.label for step in left if step.key not in exports)
        unexported = tuple(step.label for step in left if step.key in exports)
        return Findings(
            splits=dict(self.splits()),
            models=models,
            matches=tuple(self.binding.matches),
            rows=tuple(self.scheduler.rows),
            untrained=untrained,
            unexported=unexported,
            warnings=tuple(notes.warnings),
            estimate=needs,
        )

    def splits(self) -> Mapping[str, tuple[int, int]]:
        """Return the samples of each split of the recipe's own data, and how many of them were used."""
        part = self.scheduler.executor.loaded_data(self.scheduler.plan.recipe)
        assert isinstance(part, ShortenedData)
        return {name: (len(part.data.split(name)), len(part.split(name))) for name in get_args(SplitName)}


def place(step: Step) -> tuple[Path, str]:
    """Return what a step and its rehearsal have in common: their keys differ."""
    return step.loaded.path, step.stage
