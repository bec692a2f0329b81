# O = rows of a weight, K = its columns, G = groups of columns in a row, S = columns in a group
"""Grids for groups of weights, and the integers on them.

A code q of up to 16 bits stands for (q - zero) * scale; each group of `group_size` neighbours in a row has a
scale and a zero of its own. Zeros are codes too, so that a weight of zero stays zero. Scales are rounded to
float16 before anything is rounded to them: so they cost two bytes in a file and no accuracy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

SMALLEST_SCALE = 2.0**-24  # the smallest float16 above zero
# Shares of the full range that the search for the smallest squared error tries.
SHARES = tuple(1 - 0.02 * step for step in range(26))


@dataclass(frozen=True)
class Width:
    """How a weight is stored: bits of a code, neighbours that share a scale (None: the row), kind of zero.

    A symmetric grid has its zero in the middle; others have it where the group's range needs it.
    """

    bits: int
    group_size: int | None = None
    symmetric: bool = False

    @property
    def largest(self) -> int:
        """The largest code."""
        return (1 << self.bits) - 1

    @property
    def middle(self) -> int:
        """The zero of a symmetric grid: one more code below it than above."""
        return 1 << (self.bits - 1)

    @property
    def dtype(self) -> torch.dtype:
        """What holds codes while they are worked on."""
        return torch.uint8 if self.bits <= 8 else torch.int32

    def columns(self, num_columns: int) -> int:
        """Return S for rows of so many columns."""
        return self.group_size or num_columns


@dataclass(frozen=True)
class Grid:
    """The grids of groups (O, G): `scale` is float32 with values of float16, `zero` a code, as float32."""

    scale: Tensor
    zero: Tensor


@dataclass(frozen=True)
class IntegerWeight:
    """A weight in codes (O, K), uint8 or above 8 bits int32; every `group_size` columns share a grid."""

    codes: Tensor
    grid: Grid
    group_size: int

    def numbers(self) -> Tensor:
        """Return the weight that the codes stand for, float32 (O, K): the same bits on every machine."""
        scale_OK, zero_OK = on_columns(self.grid, self.group_size, self.codes.shape[1])
        return (self.codes.float() - zero_OK) * scale_OK


Fit = Callable[[Tensor, Width], Grid]
"""Grids for a weight (O, G, S)."""


def grouped(weight_OK: Tensor, width: Width) -> Tensor:
    """Return a weight as (O, G, S); the last group is filled up with zeros."""
    size = width.columns(weight_OK.shape[1])
    return functional.pad(weight_OK, (0, -weight_OK.shape[1] % size)).reshape(len(weight_OK), -1, size)


def on_columns(grid: Grid, group_size: int, num_columns: int) -> tuple[Tensor, Tensor]:
    """Return the scale and the zero of every column, (O, K) each."""
    scale, zero = (
        part.repeat_interleave(group_size, dim=1)[:, :num_columns] for part in (grid.scale, grid.zero)
    )
    return scale, zero


def storable(scale: Tensor) -> Tensor:
    """Return the smallest float16 numbers that are not below the scales, and above zero, as float32.

    Rounded up, so that the ends of a range stay inside. Raises ValueError beyond what float16 holds.
    """
    half = scale.half()
    next_above = (half.view(torch.int16) + 1).view(torch.float16)
    held = torch.where(half.to(scale.dtype) < scale, next_above, half).float()
    if not held.isfinite().all():
        raise ValueError("its numbers are too large for scales in float16, or are not finite")
    return held.clamp(min=SMALLEST_SCALE)


def extremes(weight_OGS: Tensor, width: Width, share: float = 1.0) -> Grid:
    """Return grids that reach from the smallest to the largest weight of a group, or over a share of that."""
    low = weight_OGS.amin(-1).clamp(max=0) * share
    high = weight_OGS.amax(-1).clamp(min=0) * share
    if width.symmetric:
        scale = storable(torch.maximum(high / (width.middle - 1), -low / width.middle))
        return Grid(scale, torch.full_like(scale, width.middle))
    scale = storable((high - low) / width.largest)
    return Grid(scale, torch.round(-low / scale).clamp(0, width.largest))


def least_squares(weight_OGS: Tensor, width: Width) -> Grid:
    """Return for each group the grid over a share of its range with the smallest squared error."""
    best = extremes(weight_OGS, width)
    smallest = squared_error(weight_OGS, best, width)
    for share in SHARES[1:]:
        grid = extremes(weight_OGS, width, share)
        error = squared_error(weight_OGS, grid, width)
        better = error < smallest
        smallest = torch.where(better, error, smallest)
        best = Grid(torch.where(better, grid.scale, best.scale), torch.where(better, grid.zero, best.zero))
    return best


FITS: dict[str, Fit] = {"extremes": extremes, "least_squares": least_squares}


def squared_error(weight_OGS: Tensor, grid: Grid, width: Width) -> Tensor:
    """Return the squared error of each group (O, G) when it is rounded to its grid."""
    scale, zero = grid.scale.unsqueeze(-1), grid.zero.unsqueeze(-1)
    rounded = (codes(weight_OGS, scale, zero, width) - zero) * scale
    return (weight_OGS - rounded).square().sum(-1)


def codes(weight: Tensor, scale: Tensor, zero: Tensor, width: Width) -> Tensor:
    """Return the nearest codes, as floats; all shapes broadcast."""
    return torch.round(weight / scale + zero).clamp(0, width.largest)


def on_grid(weight_OK: Tensor, grid: Grid, width: Width) -> IntegerWeight:
    """Return a weight rounded to the nearest codes of its grids."""
    size = width.columns(weight_OK.shape[1])
    scale_OK, zero_OK = on_columns(grid, size, weight_OK.shape[1])
    return IntegerWeight(codes(weight_OK, scale_OK, zero_OK, width).to(width.dtype), grid, size)
