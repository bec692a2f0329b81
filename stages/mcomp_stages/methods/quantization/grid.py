# C = slices along a weight's channel axis
"""Integer grids: how far they reach at each width, and with which scale and zero point they cover a range.

Integers q stand for (q - zero_point) * scale. Activations have one scale; weights one, one for each slice of
their channel axis, or one for each group along their other axis. Integers narrower than their type are held
in it: 4 bits in an int8. Zero is on every grid.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mcomp_stages.methods.quantization.config import Activations, Weights
from mcomp_stages.methods.quantization.pairs import smallest_scale

# Below any scale that data gives; products of two of them are still normal float32 numbers.
SMALLEST_SCALE = 1e-12

Grid = tuple[Tensor, Tensor]
"""A float32 scale, and a zero point in the type of the integers."""


class Limits(NamedTuple):
    """The lowest and the highest integer of a grid, and the type that holds them."""

    lowest: int
    highest: int
    dtype: torch.dtype


def activation_limits(settings: Activations) -> Limits:
    """Return how far the integers of an activation reach: the whole width."""
    half, wide = 2 ** (settings.bits - 1), settings.bits > 8
    if settings.signed:
        return Limits(-half, half - 1, torch.int16 if wide else torch.int8)
    return Limits(0, 2 * half - 1, torch.uint16 if wide else torch.uint8)


def weight_limits(settings: Weights) -> Limits:
    """Return how far the integers of a weight reach.

    A symmetric grid has as many steps below zero as above (-127..127, and -1..1 with 2 bits): a batch norm
    with a negative gain turns it around. One bit is -1 or 1, and nothing between.
    """
    bits: int = settings.bits
    if bits == 1:
        return Limits(-1, 1, torch.int8)
    half = 2 ** (settings.bits - 1)
    if settings.symmetric:
        return Limits(1 - half, half - 1, torch.int8)
    return Limits(0, 2 * half - 1, torch.uint8)


def activation_grid(low: Tensor, high: Tensor, settings: Activations) -> Grid:
    """Return the grid over [low, high] that holds zero exactly."""
    low, high, limits = low.clamp(max=0), high.clamp(min=0), activation_limits(settings)
    cover = symmetric_grid if settings.symmetric else affine_grid
    return cover(low, high, limits)


def affine_grid(low: Tensor, high: Tensor, limits: Limits) -> Grid:
    """Return the grid whose ends are those of the range, moved by up to half a step to hold zero."""
    lowest, highest, dtype = limits
    scale = ((high - low) / (highest - lowest)).clamp(min=SMALLEST_SCALE)
    return scale, torch.round(lowest - low / scale).clamp(lowest, highest).to(dtype)


def symmetric_grid(low: Tensor, high: Tensor, limits: Limits) -> Grid:
    """Return the grid with zero in its middle, or at the end of an unsigned one if nothing is negative."""
    lowest, highest, dtype = limits
    zero_point = torch.where(low < 0, (lowest + highest + 1) // 2, max(lowest, 0))
    scale = (torch.maximum(-low, high) / (highest - zero_point)).clamp(min=SMALLEST_SCALE)
    return scale, zero_point.to(dtype)


def weight_grid(weight: Tensor, settings: Weights, axis: int) -> Grid:
    """Return the grid that reaches just as far as the weight does, or as far as its pairs need.

    `axis` is that of its output channels.
    """
    low, high = weight_range(weight.detach(), settings, axis)
    limits = weight_limits(settings)
    if settings.symmetric:
        # Not symmetric_grid: the largest weight divided by the highest integer, as the runtimes do.
        scale = (torch.maximum(-low, high) / limits.highest).clamp(min=SMALLEST_SCALE)
        if settings.sums == "int16":
            scale = torch.maximum(scale, smallest_scale(weight, axis, settings.per))
        return scale, torch.zeros_like(scale, dtype=limits.dtype)
    return affine_grid(low.clamp(max=0), high.clamp(min=0), limits)


def weight_range(weight: Tensor, settings: Weights, axis: int) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest weight of the tensor, or of each channel (C,) or group.

    Groups lie along the other axis of a matrix: (O, I) with channels on axis 0 has ranges (O, I / size).
    """
    if settings.per == "tensor":
        low, high = torch.aminmax(weight)
    elif settings.per == "channel":
        low, high = torch.aminmax(weight.movedim(axis, 0).flatten(1), dim=1)
    else:
        assert settings.group_size is not None
        grouped = torch.unflatten(weight, 1 - axis, (-1, settings.group_size))
        low, high = torch.aminmax(grouped, dim=2 - axis)
    return low, high


def spread(parameter: Tensor, x: Tensor, axis: int) -> Tensor:
    """Return a scale or zero point shaped to broadcast over `x`.

    One for the tensor, one for each slice of `axis`, or, with as many axes as `x`, one for each block of
    neighbours along `axis`.
    """
    if parameter.ndim == 0:
        return parameter
    if parameter.ndim == x.ndim and x.ndim > 1:
        return parameter.repeat_interleave(x.shape[axis] // parameter.shape[axis], dim=axis)
    shape = [1] * x.ndim
    shape[axis] = -1
    return parameter.reshape(shape)
