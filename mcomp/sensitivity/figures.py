"""What is measured of each trial, and what it costs by that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from mcomp.data.contract import Split
from mcomp.data.shortened import ShortenedSplit
from mcomp.errors import StageError
from mcomp.measure.accuracy import batches, evaluate
from mcomp.measure.machine import machine_id
from mcomp.measure.sqnr import outputs, outputs_sqnr_db
from mcomp.sensitivity.record import Asked, Figure
from mcomp.sensitivity.trials import Trial, Trials
from mcomp.stage import Context

BATCH_SIZE = 256


@dataclass(frozen=True)
class Yardstick:
    """A figure: its name, how it is measured, and how a value becomes a cost.

    `reference` is the figure of the model as it comes in, None if others are against that; `limit` is what a
    part may cost. `depends_on`: what the values depend on beside the step and the trial.
    """

    name: str
    reference: float | None
    limit: float
    num_samples: int
    value: Callable[[Trial], float]
    cost: Callable[[float], float]
    depends_on: Mapping[str, Any] = field(default_factory=dict)


def task_metric(offered: Trials, context: Context, asked: Asked) -> Yardstick:
    """The task's metric on validation; the cost is what it drops by."""
    split = first_samples(context.data.split("validation"), asked)
    sign = 1 if context.task.direction == "higher" else -1

    def metric(module: nn.Module) -> float:
        return evaluate(module, split, context.task).metric

    reference = metric(offered.module)
    return Yardstick(
        context.task.metric_name,
        reference,
        asked.limit,
        len(split),
        on_module(metric),
        lambda value: sign * (reference - value),
    )


def sqnr(offered: Trials, context: Context, asked: Asked) -> Yardstick:
    """The SQNR of the outputs on calibration samples; the cost is the noise over the signal (RMS)."""
    split = first_samples(context.data.split("calibration"), asked)
    inputs = [batch.inputs for batch in batches(split, BATCH_SIZE)]
    expected = outputs(offered.module, inputs)
    return Yardstick(
        "SQNR (dB)",
        None,
        noise(asked.limit),
        len(split),
        on_module(lambda module: outputs_sqnr_db(expected, outputs(module, inputs))),
        noise,
    )


def latency(offered: Trials, context: Context, asked: Asked) -> Yardstick:
    """The milliseconds in the runtime; the cost is what is added to the whole model's, mostly negative.

    Raises StageError for a stage whose parts take no other time.
    """
    if offered.timing is None:
        raise StageError("parts of this stage are not timed one by one; leave out --metric latency")
    timing = offered.timing()
    return Yardstick(
        "latency (ms)",
        timing.whole_ms,
        asked.limit,
        0,
        timing.ms,
        lambda value: value / timing.whole_ms - 1,
        {"machine": machine_id()},
    )


FIGURES: Mapping[Figure, Callable[[Trials, Context, Asked], Yardstick]] = {
    "task": task_metric,
    "sqnr": sqnr,
    "latency": latency,
}


def on_module(figure: Callable[[nn.Module], float]) -> Callable[[Trial], float]:
    """Return the figure of a trial's module."""

    def value(trial: Trial) -> float:
        with trial.module() as module:
            return figure(module)

    return value


def noise(sqnr_db: float) -> float:
    """Return the root mean square of the noise over the signal's."""
    return float(10 ** (-sqnr_db / 20))


def first_samples(split: Split, asked: Asked) -> Split:
    """Return so many samples of a split as are asked for."""
    if asked.samples is None or asked.samples >= len(split):
        return split
    # Drawn, not counted off: samples often stand in the order of their classes. Always the same draw.
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
    return ShortenedSplit(split, order[: asked.samples].sort().values)
