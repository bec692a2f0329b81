# C = scales of a weight: one, one for each channel, or (with as many axes as the weight) one for each group
"""How far the grid of a weight reaches: to its extremes, or less far where that rounds it with less error."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mcomp.model.model import Model
from mcomp_stages.methods.quantization.edit import Quantizers
from mcomp_stages.methods.quantization.grid import Grid, spread, weight_grid, weight_limits
from mcomp_stages.methods.quantization.pairs import smallest_scale
from mcomp_stages.methods.quantization.sites import WeightSite

# Of the range from the smallest to the largest weight. With few bits, clipping the tails pays.
SHARES = tuple(share / 50 for share in range(50, 14, -1))


def extremes(weight: Tensor, site: WeightSite) -> Grid:
    """Return the grid that reaches just as far as the weight."""
    return weight_grid(weight, site, site.axis)


def least_squares(weight: Tensor, site: WeightSite) -> Grid:
    """Return the grid over a share of the range, each scale its own, with the smallest squared error."""
    best = extremes(weight, site)
    smallest_C = squared_error(weight, best, site)
    finest = smallest_scale(weight, site.axis, site.per) if site.sums == "int16" else torch.zeros(())
    for share in SHARES[1:]:
        scale, zero_point = extremes(weight * share, site)
        grid = torch.maximum(scale, finest), zero_point
        error_C = squared_error(weight, grid, site)
        better_C = error_C < smallest_C
        smallest_C = torch.where(better_C, error_C, smallest_C)
        best = (torch.where(better_C, grid[0], best[0]), torch.where(better_C, grid[1], best[1]))
    return best


WEIGHT_RANGES: Mapping[str, Callable[[Tensor, WeightSite], Grid]] = {
    "extremes": extremes,
    "least_squares": least_squares,
}


def rounded(weight: Tensor, grid: Grid, site: WeightSite) -> Tensor:
    """Return the numbers on a grid that are nearest to a weight."""
    scale, zero_point = (spread(part, weight, site.scale_axis) for part in grid)
    lowest, highest, _ = weight_limits(site)
    offset = zero_point.to(weight.dtype)
    return (torch.round(weight / scale).add_(offset).clamp_(lowest, highest) - offset) * scale


def squared_error(weight: Tensor, grid: Grid, site: WeightSite) -> Tensor:
    """Return the squared error (C,) of what shares a scale."""
    error = (rounded(weight, grid, site) - weight).square()
    if site.per == "tensor":
        return error.sum()
    if site.per == "channel":
        return error.movedim(site.axis, 0).flatten(1).sum(1)
    assert site.group_size is not None
    return torch.unflatten(error, site.scale_axis, (-1, site.group_size)).sum(site.scale_axis + 1)


def with_stored_scales(edit: Quantizers) -> Quantizers:
    """Return quantizers whose weights have scales of their own, in the model's state."""
    stored = {name: site.model_copy(update={"scale": "stored"}) for name, site in edit.weights.items()}
    return edit.model_copy(update={"weights": stored})


def set_weight_ranges(model: Model, edit: Quantizers, kind: str) -> None:
    """Set the stored scales of a model's weights, in place, by one of `WEIGHT_RANGES`."""
    for name, site in edit.weights.items():
        weight = model.module.get_parameter(name).detach()
        scale, zero_point = WEIGHT_RANGES[kind](weight, site)
        model.state[f"quantizers.{name}.scale"] = scale
        model.state[f"quantizers.{name}.zero_point"] = zero_point
