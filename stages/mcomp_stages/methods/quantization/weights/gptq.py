# O = rows of a weight, K = its columns, G = groups of columns in a row, R = columns left in a block
"""GPTQ: round column after column, and let the columns not yet rounded make up for the error.

Source: Frantar et al. 2022, arXiv:2210.17323, Algorithm 1.
Differs: with `by_activity` (the authors' later "act-order") grids are those of the weight as it came, so
that groups stay neighbours in memory; without it a group's grid is fitted when the sweep reaches it, to
values that already carry all corrections.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mcomp_stages.methods.layer_hessian import BLOCK, DAMPING, Rule, inverse_factor, sweep
from mcomp_stages.methods.quantization.weights.grid import (
    Fit,
    Grid,
    IntegerWeight,
    Width,
    codes,
    grouped,
    on_columns,
    on_grid,
)


def gptq(
    weight_OK: Tensor,
    hessian_KK: Tensor,
    width: Width,
    fit: Fit,
    *,
    damping: float = DAMPING,
    by_activity: bool = True,
    mask_OK: Tensor | None = None,
) -> IntegerWeight:
    """Return integers whose outputs are close to the weight's on the inputs behind the Hessian.

    Where `mask_OK` is False the weight is pruned: it stays zero. Raises ValueError as `inverse_factor` does.
    """
    mask_OK = torch.ones_like(weight_OK, dtype=torch.bool) if mask_OK is None else mask_OK
    if not by_activity and width.group_size is not None:
        return with_late_grids(weight_OK, inverse_factor(hessian_KK, damping), width, fit, mask_OK)
    grid = fit(grouped(weight_OK, width), width)
    order_K = by_diagonal(hessian_KK) if by_activity else torch.arange(weight_OK.shape[1])
    factor = inverse_factor(hessian_KK[order_K][:, order_K], damping)
    columns = on_columns(grid, width.columns(weight_OK.shape[1]), weight_OK.shape[1])
    scale_OK, zero_OK = (part[:, order_K] for part in columns)
    rule = rounding(scale_OK, zero_OK, width, mask_OK[:, order_K])
    swept = sweep(weight_OK[:, order_K], factor, rule)
    rounded_OK = torch.empty_like(weight_OK)
    rounded_OK[:, order_K] = swept
    return on_grid(rounded_OK, grid, width)  # exact: every value lies on its grid


def by_diagonal(hessian_KK: Tensor) -> Tensor:
    """Return the columns in the order of their inputs' mean square, largest first."""
    return hessian_KK.diagonal().argsort(descending=True, stable=True)


def rounding(scale_OK: Tensor, zero_OK: Tensor, width: Width, mask_OK: Tensor) -> Rule:
    """Return the rule that rounds each column to its grid."""

    def rule(column: int, rest_OR: Tensor) -> Tensor:
        values_O = rest_OR[:, 0] * mask_OK[:, column]
        return nearest(values_O, scale_OK[:, column], zero_OK[:, column], width)

    return rule


def nearest(values_O: Tensor, scale_O: Tensor, zero_O: Tensor, width: Width) -> Tensor:
    """Return the numbers of the grids that are closest to the values."""
    return (codes(values_O, scale_O, zero_O, width) - zero_O) * scale_O


def with_late_grids(
    weight_OK: Tensor, factor_KK: Tensor, width: Width, fit: Fit, mask_OK: Tensor
) -> IntegerWeight:
    """Return the integers of a sweep in memory's order that fits each group's grid when it gets there."""
    size = width.columns(weight_OK.shape[1])
    grids: list[Grid] = []

    def rule(column: int, rest_OR: Tensor) -> Tensor:
        if column % size == 0:
            group_OS = rest_OR[:, :size] * mask_OK[:, column : column + size]
            grids.append(fit(group_OS.unsqueeze(1), width))
        values_O = rest_OR[:, 0] * mask_OK[:, column]
        return nearest(values_O, grids[-1].scale[:, 0], grids[-1].zero[:, 0], width)

    whole_groups = size * -(-BLOCK // size)
    rounded_OK = sweep(weight_OK, factor_KK, rule, block=whole_groups)
    grid = Grid(torch.cat([each.scale for each in grids], 1), torch.cat([each.zero for each in grids], 1))
    return on_grid(rounded_OK, grid, width)
