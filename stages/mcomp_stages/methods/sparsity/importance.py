# U = units
"""How much a unit of weights matters. The lowest go first.

Means and not sums, so that units of different sizes can be compared. Sources: magnitude, Han et al. 2015,
arXiv:1506.02626; movement, Sanh et al. 2020, arXiv:2005.07683 (equation 5: the sum of -gradient * weight).
Differs: the paper trains scores through a straight-through estimator and lets weights come back; here a
pruned weight is zero, moves nowhere, and stays zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Generator, Tensor

from mcomp_stages.methods.sparsity.config import Importance
from mcomp_stages.methods.sparsity.units import sizes, summed

Score = Callable[[Tensor, Tensor, Tensor | None, Generator], Tensor]
"""From a weight, the unit of each of its numbers, and what they moved so far, to the scores (U,)."""


def mean_magnitude(weight: Tensor, index: Tensor, moved: Tensor | None, generator: Generator) -> Tensor:
    """The mean absolute weight."""
    return summed(weight.abs(), index) / sizes(index).to(weight.device)


def root_mean_square(weight: Tensor, index: Tensor, moved: Tensor | None, generator: Generator) -> Tensor:
    """The root of the mean squared weight."""
    return (summed(weight.double().square(), index) / sizes(index).to(weight.device)).sqrt()


def mean_movement(weight: Tensor, index: Tensor, moved: Tensor | None, generator: Generator) -> Tensor:
    """How far training pushed the weights away from zero: negative where it pushed them towards it."""
    assert moved is not None
    return summed(moved, index) / sizes(index).to(weight.device)


def random(weight: Tensor, index: Tensor, moved: Tensor | None, generator: Generator) -> Tensor:
    """Uniform numbers: the floor that any other importance has to beat."""
    return torch.rand(len(sizes(index)), generator=generator, dtype=torch.float64).to(weight.device)


SCORES: Mapping[Importance, Score] = {
    "l1": mean_magnitude,
    "l2": root_mean_square,
    "movement": mean_movement,
    "random": random,
}
