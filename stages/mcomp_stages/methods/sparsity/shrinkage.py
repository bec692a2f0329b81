"""How weights shrink under a penalty: one proximal step after each update.

A step of size t on a penalty P replaces w by the point that minimizes P(v) t + ||v - w||^2 / 2. Unlike the
gradient of P, which the papers add to that of the loss, it gives exact zeros, is stable at any strength, and
does the same with any optimizer. Source: Parikh & Boyd 2014, Proximal Algorithms (sections 4.2, 6.5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Shrink = Callable[[float], None]
"""Shrinks weights in place by a step of this size."""


@dataclass(frozen=True)
class Slices:
    """The groups (size of the axis,) that the indices of one axis of a parameter belong to; -1: to none."""

    name: str
    axis: int
    groups: Tensor


class Shrinking:
    """A penalty as a constraint of training; its strength rises to the full one along a ramp.

    Only the last epoch is kept: before it the weights are not yet what the penalty makes of them.
    """

    def __init__(self, shrink: Shrink, strength: float, ramp_updates: int, num_updates: int) -> None:
        self.shrink, self.strength, self.ramp_updates = shrink, strength, ramp_updates
        self.settles_at = num_updates

    def tensors(self) -> Mapping[str, Tensor]:
        """Return nothing: the strength follows from the number of the update."""
        return {}

    def after_update(self, number: int, lr: float) -> None:
        """Shrink the weights."""
        share = min(1.0, number / self.ramp_updates) if self.ramp_updates else 1.0
        with torch.no_grad():
            self.shrink(lr * self.strength * share)


def towards_zero(weights: Iterable[nn.Parameter]) -> Shrink:
    """L1: every weight moves by the size of the step, at most to zero."""
    kept = list(weights)

    def shrink(step: float) -> None:
        for weight in kept:
            weight.copy_(weight.sign() * (weight.abs() - step).clamp_min(0))

    return shrink


def in_proportion(weights: Iterable[nn.Parameter]) -> Shrink:
    """L2: every weight is divided by the same."""
    kept = list(weights)

    def shrink(step: float) -> None:
        for weight in kept:
            weight.div_(1 + step)

    return shrink


def as_groups(parameters: Mapping[str, Tensor], slices: Sequence[Slices], num_groups: int) -> Shrink:
    """Group lasso: the norm of every group falls by the step times the root of its size, at most to zero.

    A weight that is in two groups, one by its output and one by its input, shrinks with both.
    """
    placed = [on_device(each, parameters[each.name].device) for each in slices]
    root_sizes = group_sums(parameters, placed, num_groups, torch.ones_like).sqrt()

    def shrink(step: float) -> None:
        norms = group_sums(parameters, placed, num_groups, torch.square).sqrt()
        factors = (1 - step * root_sizes / norms.clamp_min(TINY)).clamp_min(0)
        for each in placed:
            weight = parameters[each.name]
            by_index = torch.where(each.groups >= 0, factors[each.groups.clamp_min(0)], 1.0)
            weight.mul_(by_index.view([-1 if axis == each.axis else 1 for axis in range(weight.ndim)]))

    return shrink


TINY = 1e-30


def on_device(slices: Slices, device: torch.device) -> Slices:
    """Return slices whose groups lie beside the weights."""
    return Slices(slices.name, slices.axis, slices.groups.to(device))


def group_sums(
    parameters: Mapping[str, Tensor],
    slices: Sequence[Slices],
    num_groups: int,
    values: Callable[[Tensor], Tensor],
) -> Tensor:
    """Return the sum (num_groups,) of a function of the weights over each group."""
    sums: Tensor | None = None
    for each in slices:
        weight = values(parameters[each.name].detach())
        others = [axis for axis in range(weight.ndim) if axis != each.axis]
        by_index = weight.sum(others) if others else weight
        if sums is None:
            sums = by_index.new_zeros(num_groups)
        member = each.groups >= 0
        sums.index_add_(0, each.groups[member], by_index[member])
    assert sums is not None
    return sums
