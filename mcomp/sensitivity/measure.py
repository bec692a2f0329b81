"""Measure the trials of a stage one by one; each figure is kept, so that an interrupted run goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from mcomp.data.contract import Split
from mcomp.data.shortened import ShortenedSplit
from mcomp.errors import StageError
from mcomp.executor import Executor, blamed_on
from mcomp.fingerprint import fingerprint, tree_digest
from mcomp.measure.accuracy import batches, evaluate
from mcomp.measure.sqnr import outputs, outputs_sqnr_db
from mcomp.plan import Step
from mcomp.sensitivity.record import Asked, Cost, Figure, Sensitivity, borne
from mcomp.sensitivity.trials import Trial
from mcomp.signals import raise_if_interrupted
from mcomp.stage import Context, NoCheckpoints, Reporter
from mcomp.store.store import Store
from mcomp.task import TaskConfig
from mcomp.training.device import borrowed_threads

MEASURED_BY = ("mcomp.sensitivity", "mcomp.measure")
BATCH_SIZE = 256


def measured(step: Step, store: Store, reporter: Reporter, asked: Asked) -> Sensitivity:
    """Return what each part of a step costs. The models that the step needs are in the store.

    Raises StageError.
    """
    executor = Executor(store, reporter)
    with store.workspace(step.key) as scratch, blamed_on(step):
        context = replace(executor.context(step, scratch), checkpoints=NoCheckpoints())
        with borrowed_threads(context.compute.threads):
            return measured_in(step, context, executor, asked)


def measured_in(step: Step, context: Context, executor: Executor, asked: Asked) -> Sensitivity:
    """Measure what the store does not have, and say what follows."""
    model = executor.model(step.source)
    offered = step.config.trials(model, context, asked.levels)
    split = first_samples(context, asked)
    figure, reference = MEASURES[asked.figure](offered.module, split, context.task)
    by = [version("mcomp"), *map(tree_digest, MEASURED_BY)]
    kept = Kept(executor.store, step.key, {"figure": asked.figure, "samples": asked.samples, "by": by})
    costs = []
    with context.reporter.progress(step.stage, len(offered.trials)) as bar:
        for trial in offered.trials:
            raise_if_interrupted()
            costs.append(cost_of(trial, kept.value(trial, figure), reference, context.task))
            bar.advance(part=trial.part, cost=costs[-1].cost)
    limit = asked.limit if reference is not None else noise(asked.limit)
    patch = offered.patch(borne(costs, limit))
    return Sensitivity(
        mcomp=version("mcomp"),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        recipe=step.recipe.name,
        stage=step.stage,
        type=step.config.type,
        key=step.key,
        varies=step.config.varies,
        figure=asked.figure,
        metric=context.task.metric_name if reference is not None else "SQNR (dB)",
        reference=reference,
        limit=limit,
        samples=len(split),
        costs=tuple(costs),
        patch=patch.fields,
        said=patch.said,
    )


@dataclass(frozen=True)
class Kept:
    """Figures of one step that are in the store, or come into it as they are measured."""

    store: Store
    key: str
    about: Mapping[str, Any]

    def value(self, trial: Trial, figure: Callable[[nn.Module], float]) -> float:
        """Return the figure of a trial, measuring it if the store does not have it.

        Raises StageError if it is not finite.
        """
        name = "sensitivity-" + fingerprint({**self.about, "part": trial.part, "level": trial.level})[:16]
        known = self.store.measurement(self.key, name)
        if known is None:
            with trial.module() as module:
                known = {"value": figure(module)}
            if not math.isfinite(known["value"]):
                raise StageError(f"at {trial.level:g}, the metric is {known['value']}", module=trial.part)
            self.store.put_measurement(self.key, name, known)
        return float(known["value"])


def cost_of(trial: Trial, value: float, reference: float | None, task: TaskConfig) -> Cost:
    """Return what a trial costs: the drop of the metric, or, without a reference, its noise."""
    sign = 1 if task.direction == "higher" else -1
    cost = noise(value) if reference is None else sign * (reference - value)
    return Cost(part=trial.part, level=trial.level, value=value, cost=round(cost, 7))


def noise(sqnr_db: float) -> float:
    """Return the root mean square of the noise over the signal's."""
    return float(10 ** (-sqnr_db / 20))


def first_samples(context: Context, asked: Asked) -> Split:
    """Return what is measured on: validation, or calibration where no targets are needed."""
    split = context.data.split("validation" if asked.figure == "task" else "calibration")
    if asked.samples is None or asked.samples >= len(split):
        return split
    # Drawn, not counted off: samples often stand in the order of their classes. Always the same draw.
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
    return ShortenedSplit(split, order[: asked.samples].sort().values)


Measure = Callable[[nn.Module], float]


def metric_of(module: nn.Module, split: Split, task: TaskConfig) -> tuple[Measure, float | None]:
    """Return what measures the task's metric, and the metric of `module`."""

    def metric(changed: nn.Module) -> float:
        return evaluate(changed, split, task).metric

    return metric, metric(module)


def sqnr_against(module: nn.Module, split: Split, task: TaskConfig) -> tuple[Measure, float | None]:
    """Return what measures the SQNR of outputs against those of `module`."""
    inputs = [batch.inputs for batch in batches(split, BATCH_SIZE)]
    expected = outputs(module, inputs)
    return lambda changed: outputs_sqnr_db(expected, outputs(changed, inputs)), None


MEASURES: Mapping[Figure, Callable[[nn.Module, Split, TaskConfig], tuple[Measure, float | None]]] = {
    "task": metric_of,
    "sqnr": sqnr_against,
}
