"""Masks of a model: how they are made from scores, put into it, and counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Generator, Tensor, nn

from mcomp.errors import StageError
from mcomp.model.edits import Masks
from mcomp.model.model import Model
from mcomp_stages.methods.sparsity.choice import CHOICES
from mcomp_stages.methods.sparsity.chosen import Chosen
from mcomp_stages.methods.sparsity.config import Importance, Scope, Unit
from mcomp_stages.methods.sparsity.importance import SCORES
from mcomp_stages.methods.sparsity.units import Block, sizes, unit_index


@dataclass(frozen=True)
class Selector:
    """Chooses the weights to set to zero, in units, by an importance."""

    shapes: Mapping[str, torch.Size]
    importance: Importance = "l1"
    unit: Unit = "weight"
    block: Block = (1, 4)
    scope: Scope = "global"
    seed: int = 0

    @property
    def layers(self) -> tuple[str, ...]:
        """The paths of the layers whose weights these are."""
        return tuple(dict.fromkeys(name.rpartition(".")[0] for name in self.shapes))

    def of_layer(self, path: str) -> Selector:
        """Return the selector among the weights of one layer alone."""
        own = {name: shape for name, shape in self.shapes.items() if name.rpartition(".")[0] == path}
        return replace(self, shapes=own, scope="layer")

    @cached_property
    def index(self) -> dict[str, Tensor]:
        """The unit that each weight belongs to."""
        return {name: unit_index(shape, self.unit, self.block) for name, shape in self.shapes.items()}

    def masks(
        self,
        weights: Mapping[str, Tensor],
        held: Mapping[str, Tensor],
        share: float,
        moved: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Return masks, False where a weight is to be zero, so that this share of all chosen weights is.

        What `held` has as False goes first: a mask never gives anything back.
        """
        generator = Generator().manual_seed(self.seed)  # anew: what is drawn again is the same again
        scores, unit_sizes = {}, {}
        for name, index in self.index.items():
            weight = weights[name].detach()
            score = SCORES[self.importance](weight, index, (moved or {}).get(name), generator)
            gone = units_gone(held.get(name), index, len(score))
            scores[name] = score.cpu().masked_fill(gone, -torch.inf)
            unit_sizes[name] = sizes(index)
        chosen = CHOICES[self.scope](scores, unit_sizes, share)
        masks = {name: ~chosen[name][index] for name, index in self.index.items()}
        return {name: mask & held[name].cpu() if name in held else mask for name, mask in masks.items()}


def units_gone(held: Tensor | None, index: Tensor, num_units: int) -> Tensor:
    """Return which units (U,) have no weight left."""
    if held is None:
        return torch.zeros(num_units, dtype=torch.bool)
    left = torch.zeros(num_units, dtype=torch.int64)
    return left.index_add_(0, index.flatten(), held.cpu().flatten().long()) == 0


def selector_of(chosen: Sequence[Chosen], **settings: Any) -> Selector:
    """Return a selector among chosen weights."""
    return Selector({each.name: each.parameter.shape for each in chosen}, **settings)


def held_masks(state: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """Return the masks that a model has already, of these parameters."""
    return {name: state[f"masks.{name}"] for name in names if f"masks.{name}" in state}


def with_masks(model: Model, masks: Mapping[str, Tensor]) -> Model:
    """Return a copy in which the weights are zero where a mask is False, and every later training keeps them
    so.

    A mask that the model has stays beside the new one: a weight needs both.
    """
    new = tuple(name for name in masks if f"masks.{name}" not in model.state)
    result = model.edited(Masks(names=new)) if new else model.copy()
    with torch.no_grad():
        for name, mask in masks.items():
            together = result.state[f"masks.{name}"] & mask
            result.state[f"masks.{name}"] = together
            result.module.get_parameter(name).masked_fill_(~together, 0.0)
    return result


def zeros_by_weight(module: nn.Module, names: Sequence[str]) -> dict[str, list[int]]:
    """Return [zeros, numbers] of each parameter."""
    counted = {}
    for name in names:
        weight = module.get_parameter(name)
        counted[name] = [weight.numel() - int(weight.count_nonzero()), weight.numel()]
    return counted


def require_zeros(model: Model, names: Sequence[str], share: float) -> dict[str, Any]:
    """Return what the report says of the zeros.

    Raises StageError if a masked weight is not zero, or if the share of zeros is not what was asked for, to
    the size of a unit.
    """
    for name in names:
        if model.module.get_parameter(name)[~model.state[f"masks.{name}"]].any():
            raise StageError("weights that were pruned are not zero", module=name)
    zeros = zeros_by_weight(model.module, names)
    reached = sum(count for count, _ in zeros.values()) / sum(size for _, size in zeros.values())
    if reached < share - TOLERANCE:
        raise StageError(
            f"{reached:.1%} of the weights are zero and {share:.1%} were asked for: the units are too large "
            "for that; take smaller ones, another share, or more layers"
        )
    return {"sparsity": round(reached, 6), "zeros": zeros}


TOLERANCE = 0.02
