"""Weights into few bits, layer after layer: each is compressed on what the compressed ones before it give."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mcomp.model.model import Model
from mcomp.stage import Checkpoint, Unit
from mcomp_stages.methods.layer_hessian import output_error
from mcomp_stages.methods.layer_inputs import Inputs, blamed_on, layer_hessians, steps_of
from mcomp_stages.methods.quantization.weights.choice import Chosen
from mcomp_stages.methods.quantization.weights.edit import StoredWeights
from mcomp_stages.methods.quantization.weights.grid import Width
from mcomp_stages.methods.quantization.weights.methods import METHODS, Method, Options, Result, Task
from mcomp_stages.methods.quantization.weights.record import StoredWeight, Unpack
from mcomp_stages.methods.quantization.weights.stored import numbers, stored_tensors

UNIT_WEIGHTS = 2**22
"""Weights that are rounded together, and kept together if the stage is interrupted, where no samples are."""


@dataclass(frozen=True)
class Compression:
    """How weights are compressed: the method with its options, and the samples, if it looks at any.

    `unpack` says of each weight, by name, how the runtime reads it.
    """

    method: Method
    options: Options
    samples: Sequence[Inputs]
    unpack: Mapping[str, Unpack]


def compressed(
    model: Model, chosen: Sequence[Chosen], compression: Compression, unit: Unit
) -> tuple[Model, dict[str, Any]]:
    """Return a copy with the chosen weights in few bits, and for each what it lost.

    Memory is that of the model and the Hessians of the layers that read one input. Raises StageError naming
    the layer whose inputs or weights say nothing.
    """
    work = model.copy()
    by_path = {each.path: each for each in chosen}
    records, losses, state = {}, {}, {}
    for number, paths in enumerate(steps(work.module, chosen, compression.samples)):
        step = tuple(by_path[path] for path in paths)
        done = unit(f"weights-{number}", partial(compressed_step, work, step, compression))
        for each in step:
            records[each.name] = StoredWeight.model_validate(done.numbers[each.name]["record"])
            losses[each.name] = done.numbers[each.name]["loss"]
            prefix = f"stored.{each.name}."
            tensors = {name: tensor for name, tensor in done.tensors.items() if name.startswith(prefix)}
            state.update(tensors)
            parts = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
            work.module.get_parameter(each.name).data.copy_(numbers(records[each.name], parts))
    result = work.edited(StoredWeights(weights=records))
    result.state.update(state)
    return result, losses


def steps(module: nn.Module, chosen: Sequence[Chosen], samples: Sequence[Inputs]) -> list[tuple[str, ...]]:
    """Return the paths that are compressed together, in order.

    With samples these are the layers that read one tensor, as they run; what has no product with its input
    comes first. Without samples nothing depends on anything.
    """
    if not samples:
        return portions(chosen)
    alone = [each.path for each in chosen if isinstance(each.layer, nn.Embedding)]
    products = [each.path for each in chosen if not isinstance(each.layer, nn.Embedding)]
    running = steps_of(module, samples[0], products)
    never = set(products) - {path for step in running for path in step}
    return [*((path,) for path in (*alone, *sorted(never))), *running]


def portions(chosen: Sequence[Chosen]) -> list[tuple[str, ...]]:
    """Return the paths in portions of about `UNIT_WEIGHTS` weights: to keep each alone takes longer than to
    round it again.
    """
    found: list[list[str]] = []
    room = 0
    for each in chosen:
        if room <= 0:
            found.append([])
            room = UNIT_WEIGHTS
        found[-1].append(each.path)
        room -= each.layer.weight.numel()
    return [tuple(paths) for paths in found]


def compressed_step(model: Model, step: Sequence[Chosen], compression: Compression) -> Checkpoint:
    """Return the integers of layers that are compressed together, with what is recorded of them."""
    hessians = step_hessians(model.module, step, compression.samples)
    tasks = [task_of(each, model, hessians.get(each.path)) for each in step]
    with blamed_on(step[0].path if len(step) == 1 else f"{step[0].path} to {step[-1].path}"):
        results = METHODS[compression.method](tasks, compression.options)
    tensors: dict[str, Tensor] = {}
    about: dict[str, Any] = {}
    for each, task, result in zip(step, tasks, results, strict=True):
        record = record_of(each, result, compression.unpack[each.name])
        parts = stored_tensors(record, result.integers, result.gain)
        tensors |= {f"stored.{each.name}.{part}": tensor for part, tensor in parts.items()}
        loss = sqnr_db(task, numbers(record, parts).flatten(1))
        about[each.name] = {"record": record.model_dump(mode="json"), "loss": loss}
    return Checkpoint(tensors, about)


def step_hessians(module: nn.Module, step: Sequence[Chosen], samples: Sequence[Inputs]) -> dict[str, Tensor]:
    """Return the Hessians by path; linears that read one tensor share theirs."""
    if not samples or isinstance(step[0].layer, nn.Embedding):
        return {}
    linears = [each.path for each in step if isinstance(each.layer, nn.Linear)]
    others = [each.path for each in step if not isinstance(each.layer, nn.Linear)]
    found = layer_hessians(module, samples, [*linears[:1], *others])
    for path in linears[1:]:
        found[path] = found[linears[0]]
    return found


def task_of(each: Chosen, model: Model, hessians: Tensor | None) -> Task:
    """Return what is to be done for one layer, with its weight as it stands in the model."""
    weight = model.module.get_parameter(each.name).detach().flatten(1)
    mask = model.state.get(f"masks.{each.name}")
    settings = each.settings
    return Task(
        weight,
        Width(settings.bits, settings.group_size, settings.symmetric),
        isinstance(each.layer, nn.Linear),
        hessians,
        None if mask is None else mask.flatten(1),
    )


def record_of(each: Chosen, result: Result, unpack: Unpack) -> StoredWeight:
    """Return what the edit says of one weight."""
    return StoredWeight(
        shape=tuple(each.layer.weight.shape),
        bits=each.settings.bits,
        group_size=result.integers.group_size,
        symmetric=each.settings.symmetric,
        unpack=unpack,
        scaled_inputs=result.gain is not None,
    )


def sqnr_db(task: Task, kept_OK: Tensor) -> float | None:
    """Return the signal of a layer's outputs over what its rounding added, in dB; None where nothing changed.

    Where no samples were looked at, of the weight itself.
    """
    change = kept_OK - task.weight
    if task.hessians is None:
        signal, noise = (part.double().square().sum().item() for part in (task.weight, change))
    else:
        groups = len(task.hessians)
        signal, noise = (
            sum(
                output_error(rows, hessian)
                for rows, hessian in zip(torch.chunk(part, groups), task.hessians, strict=True)
            )
            for part in (task.weight, change)
        )
    return round(10 * math.log10(signal / noise), 2) if signal > 0 and noise > 0 else None
