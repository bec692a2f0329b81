# O = rows of a weight, K = its columns, G = groups of a convolution
"""The methods by name: from the weights of layers that read one input to their integers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from mcomp_stages.methods.quantization.weights.awq import activation_aware
from mcomp_stages.methods.quantization.weights.gptq import gptq
from mcomp_stages.methods.quantization.weights.grid import Fit, Grid, IntegerWeight, Width
from mcomp_stages.methods.quantization.weights.hqq import half_quadratic
from mcomp_stages.methods.quantization.weights.round_to_nearest import round_to_nearest

Method = Literal["rtn", "hqq", "gptq", "awq"]
WITH_SAMPLES: tuple[Method, ...] = ("gptq", "awq")


@dataclass(frozen=True)
class Task:
    """One weight to compress, as (O, K).

    `hessians` (G, K, K) are None for what has none: embeddings, and methods without samples. Where `mask`
    (O, K) is False the weight is pruned and stays zero.
    """

    weight: Tensor
    width: Width
    is_linear: bool
    hessians: Tensor | None = None
    mask: Tensor | None = None


@dataclass(frozen=True)
class Result:
    """The integers of a weight; `gain` (K,) is what the inputs of its layer must be multiplied by."""

    integers: IntegerWeight
    gain: Tensor | None = None


@dataclass(frozen=True)
class Options:
    """What all tasks of a stage have in common."""

    fit: Fit
    damping: float
    by_activity: bool


def rounded(tasks: Sequence[Task], options: Options) -> list[Result]:
    """Round to nearest."""
    return [Result(round_to_nearest(task.weight, task.width, options.fit)) for task in tasks]


def rounded_half_quadratic(tasks: Sequence[Task], options: Options) -> list[Result]:
    """Round to nearest, on grids that give up on outliers."""
    return rounded(tasks, replace(options, fit=half_quadratic))


def swept(tasks: Sequence[Task], options: Options) -> list[Result]:
    """Sweep with the layer's Hessian; what has none is rounded to nearest."""
    return [Result(swept_groups(task, options)) for task in tasks]


def swept_groups(task: Task, options: Options) -> IntegerWeight:
    """Return the integers of one layer, each of its groups swept with its own Hessian."""
    if task.hessians is None:
        return round_to_nearest(task.weight, task.width, options.fit)
    groups = len(task.hessians)
    masks = [None] * groups if task.mask is None else task.mask.chunk(groups)
    parts = [
        gptq(
            weight_OK,
            hessian_KK,
            task.width,
            options.fit,
            damping=options.damping,
            by_activity=options.by_activity,
            mask_OK=mask_OK,
        )
        for weight_OK, hessian_KK, mask_OK in zip(
            task.weight.chunk(groups), task.hessians, masks, strict=True
        )
    ]
    grid = Grid(torch.cat([part.grid.scale for part in parts]), torch.cat([part.grid.zero for part in parts]))
    return IntegerWeight(torch.cat([part.codes for part in parts]), grid, parts[0].group_size)


def scaled_by_activity(tasks: Sequence[Task], options: Options) -> list[Result]:
    """Scale the inputs of linears that are read together; everything else is rounded to nearest."""
    together = [task for task in tasks if task.is_linear and task.hessians is not None]
    if not together:
        return rounded(tasks, options)
    assert together[0].hessians is not None
    found = activation_aware(
        [task.weight for task in together],
        together[0].hessians[0],
        [task.width for task in together],
        options.fit,
    )
    gain = None if found.alpha == 0 else 1 / found.input_scale
    results = {id(task): Result(weight, gain) for task, weight in zip(together, found.weights, strict=True)}
    return [results.get(id(task)) or rounded([task], options)[0] for task in tasks]


METHODS: Mapping[Method, Callable[[Sequence[Task], Options], list[Result]]] = {
    "rtn": rounded,
    "hqq": rounded_half_quadratic,
    "gptq": swept,
    "awq": scaled_by_activity,
}
