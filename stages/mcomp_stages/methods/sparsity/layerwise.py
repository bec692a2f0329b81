# O = rows of a weight, K = its columns, G = groups of a convolution
"""Zeros by the Hessians of layers, one layer after the other, each on what the sparse ones before it give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp.stage import Checkpoint, Unit
from mcomp_stages.methods.layer_hessian import output_error
from mcomp_stages.methods.layer_inputs import Inputs, blamed_on, layer_hessians, steps_of
from mcomp_stages.methods.sparsity.chosen import Chosen
from mcomp_stages.methods.sparsity.masks import with_masks
from mcomp_stages.methods.sparsity.second_order import METHODS, Goal, LayerMethod


@dataclass(frozen=True)
class LayerPruning:
    """How layers are pruned, and the samples that they are pruned on."""

    method: LayerMethod
    goal: Goal
    damping: float
    samples: Sequence[Inputs]


def pruned_by_layers(
    model: Model, chosen: Sequence[Chosen], pruning: LayerPruning, unit: Unit
) -> tuple[Model, dict[str, float]]:
    """Return a copy with masks, and what each layer's outputs lost as a share of what they were.

    Memory is that of the model and the Hessians of the layers that read one input. Raises StageError naming
    the layer whose inputs say nothing, or that never runs.
    """
    work = model.copy()
    by_path = {each.path: each for each in chosen}
    masks: dict[str, Tensor] = {}
    losses: dict[str, float] = {}
    for number, paths in enumerate(steps(work.module, by_path, pruning.samples[0])):
        together = tuple(by_path[path] for path in paths)
        done = unit(f"layers-{number}", partial(pruned_step, work, together, pruning))
        for each in together:
            masks[each.name] = done.tensors[f"masks.{each.name}"]
            work.module.get_parameter(each.name).data.copy_(done.tensors[f"weights.{each.name}"])
            losses[each.name] = done.numbers[each.name]
    return with_masks(work, masks), losses


def steps(module: nn.Module, by_path: dict[str, Chosen], sample: Inputs) -> list[tuple[str, ...]]:
    """Return the layers as they run, those that read one tensor together. Raises StageError for one that
    does not run.
    """
    found = steps_of(module, sample, tuple(by_path))
    never = set(by_path) - {path for paths in found for path in paths}
    if never:
        raise StageError(
            "it never ran on the calibration samples, so nothing is known of it; add it to skip",
            module=min(never),
        )
    return found


def pruned_step(model: Model, together: Sequence[Chosen], pruning: LayerPruning) -> Checkpoint:
    """Return masks and weights of layers that read one tensor; linears share their Hessian."""
    linears = [each.path for each in together if isinstance(each.layer, nn.Linear)]
    others = [each.path for each in together if not isinstance(each.layer, nn.Linear)]
    hessians = layer_hessians(model.module, pruning.samples, [*linears[:1], *others])
    tensors: dict[str, Tensor] = {}
    losses: dict[str, Any] = {}
    for each in together:
        hessian_GKK = hessians[linears[0] if each.path in linears else each.path]
        weight = model.module.get_parameter(each.name).detach()
        held = model.state.get(f"masks.{each.name}", torch.ones_like(weight, dtype=torch.bool))
        with blamed_on(each.path):
            mask, pruned = pruned_layer(weight, hessian_GKK, held, pruning)
        tensors |= {f"masks.{each.name}": mask, f"weights.{each.name}": pruned}
        losses[each.name] = lost(weight, pruned, hessian_GKK)
    return Checkpoint(tensors, losses)


def pruned_layer(
    weight: Tensor, hessian_GKK: Tensor, held: Tensor, pruning: LayerPruning
) -> tuple[Tensor, Tensor]:
    """Return the mask and the weight, every group of a convolution pruned with its own Hessian.

    With a pattern, columns are put in an order in which neighbours are inputs.
    """
    columns_K = torch.arange(weight[0].numel())
    if pruning.goal.pattern is not None:
        columns_K = columns_K.view(weight.shape[1], -1).T.flatten()
    prune = METHODS[pruning.method]
    parts = [
        prune(rows[:, columns_K], hessian[columns_K][:, columns_K], pruning.goal, pruning.damping, kept)
        for rows, hessian, kept in zip(
            weight.flatten(1).chunk(len(hessian_GKK)),
            hessian_GKK,
            held.flatten(1)[:, columns_K].chunk(len(hessian_GKK)),
            strict=True,
        )
    ]
    back_K = columns_K.argsort()
    mask, pruned = (torch.cat(each)[:, back_K].view(weight.shape) for each in zip(*parts, strict=True))
    return mask, pruned


def lost(weight: Tensor, pruned: Tensor, hessian_GKK: Tensor) -> float:
    """Return the mean square of the change of a layer's outputs as a share of that of its outputs."""
    groups = len(hessian_GKK)
    change, whole = (
        sum(
            output_error(rows, hessian)
            for rows, hessian in zip(part.flatten(1).chunk(groups), hessian_GKK, strict=True)
        )
        for part in (pruned - weight, weight)
    )
    return round(change / whole, 6) if whole > 0 else 0.0
