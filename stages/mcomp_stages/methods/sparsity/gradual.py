"""Masks that grow while a model trains.

Source: Zhu & Gupta 2017, arXiv:1710.01878 (equation 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mcomp_stages.methods.sparsity.config import Gradual
from mcomp_stages.methods.sparsity.masks import Selector


@dataclass(frozen=True)
class Growth:
    """When masks are made anew, by the number of an update, and how sparse they are."""

    first: int
    last: int
    every: int
    initial: float
    final: float

    def is_due(self, number: int) -> bool:
        """Whether a mask is made after this update."""
        inside = self.first <= number <= self.last
        return inside and ((number - self.first) % self.every == 0 or number == self.last)

    def sparsity(self, number: int) -> float:
        """Return the share of zeros after an update: a cubic from the first to the last mask."""
        left = (self.last - number) / (self.last - self.first) if number < self.last else 0.0
        return self.final + (self.initial - self.final) * left**3


def growth_of(schedule: Gradual, final: float, num_updates: int) -> Growth:
    """Return the schedule of a training of so many updates."""
    first = max(1, round(schedule.start * num_updates))
    last = min(max(first, round(schedule.end * num_updates)), num_updates)
    return Growth(first, last, schedule.every, schedule.initial, final)


class GradualMasks:
    """Sets more and more weights to zero; a constraint of training.

    `masks` is what holds now, `moved` the sum of -gradient * weight of every update until the last mask.
    """

    def __init__(
        self, module: nn.Module, selector: Selector, growth: Growth, held: Mapping[str, Tensor]
    ) -> None:
        self.selector, self.growth, self.held = selector, growth, dict(held)
        self.weights = {name: module.get_parameter(name) for name in selector.shapes}
        self.masks = {
            name: held[name].to(weight.device) if name in held else torch.ones_like(weight, dtype=torch.bool)
            for name, weight in self.weights.items()
        }
        self.moved: dict[str, Tensor] = {}
        if selector.importance == "movement":
            self.moved = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        self.settles_at = growth.last

    def tensors(self) -> dict[str, Tensor]:
        """Return the masks and the movements."""
        return {
            **{f"masks.{name}": mask for name, mask in self.masks.items()},
            **{f"moved.{name}": moved for name, moved in self.moved.items()},
        }

    def after_update(self, number: int, lr: float) -> None:
        """Make a new mask if one is due, and set what it leaves out to zero."""
        with torch.no_grad():
            if number <= self.growth.last:
                self.note_movement()
            if self.growth.is_due(number):
                share = self.growth.sparsity(number)
                if share > 0:
                    masks = self.selector.masks(self.weights, self.masks, share, self.moved)
                    for name, mask in masks.items():
                        self.masks[name].copy_(mask)
            for name, weight in self.weights.items():
                weight.masked_fill_(~self.masks[name], 0.0)

    def note_movement(self) -> None:
        """Add what this update moved. A weight that is zero has not moved."""
        for name, moved in self.moved.items():
            weight = self.weights[name]
            if weight.grad is not None:
                moved.addcmul_(weight.grad, weight, value=-1)
