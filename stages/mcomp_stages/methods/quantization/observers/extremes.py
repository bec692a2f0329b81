"""Ranges from the smallest and largest value of each batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mcomp_stages.methods.quantization.observers.config import MinMax, MovingAverage
from mcomp_stages.methods.quantization.observers.observer import (
    Integers,
    Range,
    ends_of,
    finite_extremes,
    range_of,
    symmetric,
)

Follow = Callable[[Range, Range], Range]


def widest(old: Range, batch: Range) -> Range:
    """Return the smallest and the largest value of all batches."""
    return torch.minimum(old[0], batch[0]), torch.maximum(old[1], batch[1])


def towards(old: Range, batch: Range, newest: float) -> Range:
    """Return a range moved towards a batch's by the share `newest`."""
    return old[0].lerp(batch[0], newest), old[1].lerp(batch[1], newest)


class ExtremesObserver:
    """Keeps one range. `follow` says how it changes with each batch after the first."""

    def __init__(self, follow: Follow) -> None:
        self.follow = follow
        self.seen: Range | None = None

    def update(self, x: Tensor) -> None:
        batch = finite_extremes(x)
        self.seen = batch if self.seen is None else self.follow(self.seen, batch)

    def range(self, grid: Integers) -> Range:
        if self.seen is None:
            raise ValueError("no values were observed")
        return symmetric(self.seen) if grid.symmetric else self.seen

    def state(self) -> dict[str, Tensor]:
        return ends_of(self.seen)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.seen = range_of(state)


def minmax(config: MinMax) -> ExtremesObserver:
    """Return an observer of the extremes of all values."""
    return ExtremesObserver(widest)


def moving_average(config: MovingAverage) -> ExtremesObserver:
    """Return an observer of the moving average of the batches' extremes."""
    return ExtremesObserver(lambda old, batch: towards(old, batch, config.newest))
