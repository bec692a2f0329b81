"""Rounding to a grid on the way forward; on the way back the gradient goes through where nothing saturates.

The forward pass uses the arithmetic of `operators` to the last bit, so that a converted model equals the
trained one. torch's own `fake_quantize_*` kernels multiply by the inverse scale and round after the zero
point is added, which breaks ties another way, and take over three times as long on a CPU; its fused
moving-average kernel is not symmetric for channels of one sign.
Source: Jacob et al. 2018, arXiv:1712.05877; Bengio et al. 2013, arXiv:1308.3432 (straight-through).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def nearest_steps(x: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
    """Return how many steps from zero each value is, between two ends; a new tensor."""
    return torch.div(x, scale).round_().clamp_(low, high)


def passed(gradient: Tensor, x: Tensor, low: float, high: float) -> Tensor:
    """Return the gradient where low < x < high, and zeros elsewhere."""
    # One vectorised pass over the gradient instead of a comparison, a mask and a product.
    through: Tensor = torch.ops.aten.hardtanh_backward(gradient, x, low, high)
    return through


def gathered(values: Tensor, scale: Tensor, axis: int) -> Tensor:
    """Return the sums of values that share a scale, shaped like `scale`: what `grid.spread` does, undone."""
    if scale.ndim == 0:
        return values.sum()
    if scale.ndim == values.ndim and values.ndim > 1:
        return torch.unflatten(values, axis, (scale.shape[axis], -1)).sum(axis + 1)
    return values.movedim(axis, 0).flatten(1).sum(1)


class RoundActivation(torch.autograd.Function):
    """Round to `low` to `high` steps from zero; the gradient passes where the value was not saturated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
        ctx.save_for_backward(x, scale)
        ctx.ends = low - 0.5, high + 0.5
        return nearest_steps(x, scale, low, high).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        x, scale = ctx.saved_tensors
        low, high = (end * scale.item() for end in ctx.ends)
        return passed(gradients[0], x, low, high), None, None, None


class RoundWeight(torch.autograd.Function):
    """Round to a grid that reaches as far as the weight; nothing saturates, so the whole gradient passes."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, scale: Tensor) -> Tensor:
        return torch.div(weight, scale).round_().mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class RoundToLimits(torch.autograd.Function):
    """Round to a grid that may end before the weight does; the gradient passes where it does not."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, scale: Tensor, zero_point: Tensor, lowest: int, highest: int
    ) -> Tensor:
        free = torch.div(weight, scale).round_().add_(zero_point)
        rounded = free.clamp(lowest, highest)
        ctx.save_for_backward(free == rounded)
        return rounded.sub_(zero_point).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None, None, None


class RoundThrough(torch.autograd.Function):
    """Round to whole numbers; the gradient is that of the numbers before."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]
