"""How the range of an activation follows from the batches seen so far: a choice by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Range = tuple[Tensor, Tensor]

# The weight of the newest batch in a moving average: it looks back over some 20 batches.
NEWEST = 0.05


def widest(old: Range, batch: Range) -> Range:
    """Return the smallest and the largest value of all batches."""
    return torch.minimum(old[0], batch[0]), torch.maximum(old[1], batch[1])


def moving_average(old: Range, batch: Range) -> Range:
    """Return the moving average of the batches' extremes (Jacob et al. 2018, arXiv:1712.05877, 3.1)."""
    return old[0].lerp(batch[0], NEWEST), old[1].lerp(batch[1], NEWEST)


OBSERVERS: dict[str, Callable[[Range, Range], Range]] = {
    "minmax": widest,
    "moving_average": moving_average,
}
