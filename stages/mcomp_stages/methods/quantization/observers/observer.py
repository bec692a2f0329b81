"""What an observer is: it takes batches of values in, and gives the range that a grid should cover."""

from __future__ import annotations

from collections.abc import Mapping
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

    def state(self) -> dict[str, Tensor]:
        """Return what was observed so far, by name."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state of an observer of the same kind."""
        ...


def finite_extremes(x: Tensor) -> Range:
    """Return the smallest and the largest value. Raises ValueError if a value is not finite."""
    low, high = torch.aminmax(x.detach())
    if not (torch.isfinite(low) and torch.isfinite(high)):
        raise ValueError(f"{int((~torch.isfinite(x)).sum())} of {x.numel()} values are not finite")
    return low.float(), high.float()


def ends_of(seen: Range | None) -> dict[str, Tensor]:
    """Return the ends of a range by name; none, if nothing was observed."""
    return {} if seen is None else dict(zip(("low", "high"), seen, strict=True))


def range_of(ends: Mapping[str, Tensor]) -> Range | None:
    """Return the range with these ends."""
    return (ends["low"], ends["high"]) if ends else None


def symmetric(seen: Range) -> Range:
    """Return the smallest range around zero, the same on both sides, that holds another."""
    largest = torch.maximum(seen[0].abs(), seen[1].abs())
    return -largest, largest
