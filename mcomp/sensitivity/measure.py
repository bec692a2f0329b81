"""Measure the trials of a stage one by one; each figure is kept, so that an interrupted run goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from mcomp.errors import StageError
from mcomp.executor import Executor, blamed_on
from mcomp.fingerprint import fingerprint, tree_digest
from mcomp.plan import Step
from mcomp.sensitivity.figures import FIGURES, Yardstick
from mcomp.sensitivity.record import Asked, Cost, Sensitivity, borne
from mcomp.sensitivity.trials import Patch, Trial, Trials
from mcomp.signals import raise_if_interrupted
from mcomp.stage import Context, NoCheckpoints, Reporter
from mcomp.store.store import Store
from mcomp.training.device import borrowed_threads

MEASURED_BY = ("mcomp.sensitivity", "mcomp.measure")
ONLY_TIMES = "times say what pays; what it costs says --metric task"


def measured(step: Step, store: Store, reporter: Reporter, asked: Asked) -> Sensitivity:
    """Return what each part of a step costs. The models that the step needs are in the store.

    Raises StageError.
    """
    executor = Executor(store, reporter)
    with store.workspace(step.key) as work, blamed_on(step):
        scratch = work / "scratch"
        scratch.mkdir()
        context = replace(executor.context(step, scratch), checkpoints=NoCheckpoints())
        with borrowed_threads(context.compute.threads):
            offered = step.config.trials(executor.model(step.source), context, asked.levels)
            yardstick = FIGURES[asked.figure](offered, context, asked)
            costs = costs_of(offered, yardstick, Kept.of(store, step, asked, yardstick), context, step.stage)
    patch = Patch(said=ONLY_TIMES)
    if asked.figure != "latency":
        patch = offered.patch(borne(costs, yardstick.limit))
    return Sensitivity(
        mcomp=version("mcomp"),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        recipe=step.recipe.name,
        stage=step.stage,
        type=step.config.type,
        key=step.key,
        varies=str(step.config.varies),
        figure=asked.figure,
        metric=yardstick.name,
        reference=yardstick.reference,
        limit=yardstick.limit,
        samples=yardstick.num_samples,
        costs=costs,
        patch=patch.fields,
        said=patch.said,
    )


def costs_of(
    offered: Trials, yardstick: Yardstick, kept: Kept, context: Context, label: str
) -> tuple[Cost, ...]:
    """Measure every trial that is not kept."""
    costs = []
    with context.reporter.progress(label, len(offered.trials)) as bar:
        for trial in offered.trials:
            raise_if_interrupted()
            value = kept.value(trial, yardstick)
            cost = round(yardstick.cost(value), 7)
            costs.append(Cost(part=trial.part, level=trial.level, value=value, cost=cost))
            bar.advance(part=trial.part, cost=cost)
    return tuple(costs)


@dataclass(frozen=True)
class Kept:
    """Figures of one step that are in the store, or come into it as they are measured."""

    store: Store
    key: str
    about: Mapping[str, Any]

    @classmethod
    def of(cls, store: Store, step: Step, asked: Asked, yardstick: Yardstick) -> Kept:
        """Return what is kept of figures that are measured in this way, by this code."""
        by = [version("mcomp"), *map(tree_digest, MEASURED_BY)]
        about = {"figure": asked.figure, "samples": asked.samples, "by": by, **yardstick.depends_on}
        return cls(store, step.key, about)

    def value(self, trial: Trial, yardstick: Yardstick) -> float:
        """Return the figure of a trial, measuring it if the store does not have it.

        Raises StageError if it is not finite.
        """
        name = "sensitivity-" + fingerprint({**self.about, "part": trial.part, "level": trial.level})[:16]
        known = self.store.measurement(self.key, name)
        if known is None:
            known = {"value": yardstick.value(trial)}
            if not math.isfinite(known["value"]):
                raise StageError(
                    f"at {trial.level:g}, its {yardstick.name} is {known['value']}", module=trial.part
                )
            self.store.put_measurement(self.key, name, known)
        return float(known["value"])
