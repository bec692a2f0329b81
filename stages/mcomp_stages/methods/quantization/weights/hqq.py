# O = rows of a weight, G = groups of columns in a row, S = columns in a group
"""Half-quadratic quantization: grids that serve most weights well and give up on a few outliers.

Minimises the l_p norm of the error, p < 1, by turns: which part of the error is outliers (a shrinkage), and
which grid fits best without them (least squares). Needs no samples.

Source: Badri & Shaji 2023, "Half-Quadratic Quantization of Large Machine Learning Models", equations 3 to 5.
Differs: zeros stay codes, so the least squares are over the scale. A zero in float would cost two bytes more
for each group and move weights that are zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mcomp_stages.methods.quantization.weights.grid import Grid, Width, codes, extremes, storable

POWER = 0.7
STEPS = 20
PENALTY, GROWTH = 10.0, 1.01  # the paper's


def half_quadratic(weight_OGS: Tensor, width: Width) -> Grid:
    """Return the grid of each group with a small sum of |error| ** 0.7."""
    start = extremes(weight_OGS, width)
    scale, zero = start.scale.unsqueeze(-1), start.zero.unsqueeze(-1)
    penalty = PENALTY
    for _ in range(STEPS):
        steps = codes(weight_OGS, scale, zero, width) - zero
        outliers = shrunk(weight_OGS - steps * scale, penalty)
        scale = fitted_scale(weight_OGS - outliers, steps, scale)
        penalty *= GROWTH
    return Grid(storable(scale.squeeze(-1)), start.zero)


def shrunk(error: Tensor, penalty: float) -> Tensor:
    """Return the part of the error that is taken for outliers: the generalised soft threshold."""
    size = error.abs()
    # Where the error is zero its power is infinite, and relu gives the zero that is due.
    return error.sign() * torch.relu(size - size.pow(POWER - 1) / penalty)


def fitted_scale(target_OGS: Tensor, steps_OGS: Tensor, scale: Tensor) -> Tensor:
    """Return the scale (O, G, 1) that brings `steps` closest to the target.

    It stays as it was where that has no answer: no step in the group, or none above zero.
    """
    products = (target_OGS * steps_OGS).sum(-1, keepdim=True)
    squares = steps_OGS.square().sum(-1, keepdim=True)
    return torch.where(products > 0, products / squares.clamp(min=1), scale)
