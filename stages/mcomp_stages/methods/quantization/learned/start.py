# G = groups of weights that share a scale, S = weights in each
"""The first scales of weights, from which training goes on."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mcomp.model.model import Model
from mcomp_stages.methods.quantization.edit import Quantizers
from mcomp_stages.methods.quantization.grid import (
    SMALLEST_SCALE,
    Grid,
    affine_grid,
    weight_grid,
    weight_limits,
)
from mcomp_stages.methods.quantization.observers.choice import observer_for
from mcomp_stages.methods.quantization.observers.config import ObserverChoice
from mcomp_stages.methods.quantization.observers.observer import Integers
from mcomp_stages.methods.quantization.sites import WeightSite


def with_first_scales(model: Model, choice: ObserverChoice | None) -> Model:
    """Return a copy of a model with quantizers whose stored scales fit its weights (see `first_grid`)."""
    started, edit = model.copy(), model.edits[-1]
    assert isinstance(edit, Quantizers)
    for name, site in edit.weights.items():
        if site.scale == "stored":
            scale, zero_point = first_grid(model.module.get_parameter(name), site, choice)
            started.state[f"quantizers.{name}.scale"] = scale
            started.state[f"quantizers.{name}.zero_point"] = zero_point
    return started


def first_grid(weight: Tensor, site: WeightSite, choice: ObserverChoice | None) -> Grid:
    """Return the first grid of a weight: as an observer sees each group that shares a scale, or LSQ's.

    LSQ starts at 2 mean|w| / sqrt(Qp) (Esser et al. 2020, 2.1), which symmetric grids alone have; here the
    mean is that of the weights that are not zero, or those of a sparse layer would start beyond the grid. A
    group of zeros gets the mean scale, so that it may become something.
    """
    like, zero_point = weight_grid(weight, site, site.axis)
    rows_GS = rows(weight.detach(), site)
    if choice is not None:
        scale, zero_point = observed_grid(rows_GS, site, choice)
    elif site.symmetric:
        mean_G = rows_GS.abs().sum(1) / rows_GS.count_nonzero(1).clamp(min=1)
        scale = 2 * mean_G / math.sqrt(weight_limits(site).highest)
    else:
        scale = like.reshape(-1)
    used = scale[scale > SMALLEST_SCALE]
    mean = used.mean() if len(used) else torch.ones(())
    scale = torch.where(scale > SMALLEST_SCALE, scale, mean)
    return scale.reshape(like.shape), zero_point.reshape(like.shape)


def rows(weight: Tensor, site: WeightSite) -> Tensor:
    """Return a weight as (G, S), in the order of the site's scales."""
    if site.per == "tensor":
        return weight.reshape(1, -1)
    if site.per == "channel":
        return weight.movedim(site.axis, 0).flatten(1)
    assert site.group_size is not None
    grouped = torch.unflatten(weight, 1 - site.axis, (-1, site.group_size))
    return grouped.movedim(2 - site.axis, -1).flatten(0, 1)


def observed_grid(rows_GS: Tensor, site: WeightSite, choice: ObserverChoice) -> Grid:
    """Return the grids (G,) over the ranges that an observer finds for each row."""
    limits = weight_limits(site)
    ranges = []
    for row in rows_GS:
        observer = observer_for(choice)
        observer.update(row)
        ranges.append(observer.range(Integers(limits.highest - limits.lowest + 1, site.symmetric)))
    low_G, high_G = (torch.stack(ends) for ends in zip(*ranges, strict=True))
    if site.symmetric:
        scale_G = torch.maximum(-low_G, high_G) / limits.highest
        return scale_G, torch.zeros_like(scale_G, dtype=limits.dtype)
    return affine_grid(low_G.clamp(max=0), high_G.clamp(min=0), limits)
