"""What an observer is: it takes batches of values in, and gives the range that a grid should cover."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Range = tuple[Tensor, Tensor]
"""The smallest and the largest value of a range, float32 scalars."""


@dataclass(frozen=True)
class Integers:
    """What integers there will be: how many levels, and whether their range is the same on both sides."""

    levels: int
    symmetric: bool = False


class Observer(Protocol):
    """Sees all values of one activation, batch by batch, once."""

    def update(self, x: Tensor) -> None:
        """Take a batch of values in. Raises ValueError if one is not finite."""
        ...

    def range(self, grid: Integers) -> Range:
        """Return the range that a grid of these integers should cover; (-t, t) for a symmetric one.

        Raises ValueError if nothing was observed.
        """
        ...


def finite_extremes(x: Tensor) -> Range:
    """Return the smallest and the largest value. Raises ValueError if a value is not finite."""
    low, high = torch.aminmax(x.detach())
    if not (torch.isfinite(low) and torch.isfinite(high)):
        raise ValueError(f"{int((~torch.isfinite(x)).sum())} of {x.numel()} values are not finite")
    return low.float(), high.float()


def symmetric(seen: Range) -> Range:
    """Return the smallest range around zero, the same on both sides, that holds another."""
    largest = torch.maximum(seen[0].abs(), seen[1].abs())
    return -largest, largest
