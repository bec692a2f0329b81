"""Step sizes that are learned: LSQ, and LSQ+ with offsets.

Sources: Esser et al. 2020, arXiv:1902.08153 (LSQ); Bhalgat et al. 2020, arXiv:2004.09576 (LSQ+).
Differs: grids of weights are symmetric (-Qp..Qp) and have a step for each channel; activations with negative
values have levels below zero as calibration found them; offsets are rounded to whole steps, so that zero is
on the grid, which padding and the integer kernels need.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from mcomp_stages.methods.quantization.config import Activations
from mcomp_stages.methods.quantization.fake_quantize import ActivationQuantizer, WeightQuantizer
from mcomp_stages.methods.quantization.grid import Grid, activation_grid, spread
from mcomp_stages.methods.quantization.observers.config import MSE, ObserverChoice
from mcomp_stages.methods.quantization.observers.observer import Range
from mcomp_stages.methods.quantization.rounding import gathered, nearest_steps, passed


def gradient_scale(num_values: int, highest: int) -> float:
    """Return what the gradient of a step size is multiplied by (LSQ, 2.2): 1 / sqrt(N Qp)."""
    return 1 / math.sqrt(num_values * highest)


class RoundToLearned(torch.autograd.Function):
    """Round a tensor to steps between `low` and `high` of one learned size.

    The gradient of the step is that of LSQ, eq. 3: round(v/s) - v/s inside, the end outside. Summed over all
    values that is (<g, q> - <g inside, v>) / s, with q what v is rounded to.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, low: int, high: int, gain: float) -> Tensor:
        rounded = nearest_steps(x, scale, low, high).mul_(scale)
        ctx.save_for_backward(x, scale, rounded)
        ctx.low, ctx.high, ctx.gain = low, high, gain
        return rounded

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        x, scale, rounded = ctx.saved_tensors
        (gradient,) = gradients
        step = scale.item()
        inside = passed(gradient, x, ctx.low * step, ctx.high * step)
        scale_gradient = (dot(gradient, rounded) - dot(inside, x)) / scale * ctx.gain
        return inside, scale_gradient, None, None, None


class RoundToOffset(torch.autograd.Function):
    """Round a tensor to a grid with a learned step and a learned lower end.

    Gradients: LSQ+, eqs. 4 and 5: the end moves with the offset outside, the step with the levels above.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, offset: Tensor, low: int, high: int, gain: float
    ) -> Tensor:
        rounded = nearest_steps(x, scale, low, high).mul_(scale)
        ctx.save_for_backward(x, scale, rounded)
        ctx.low, ctx.high, ctx.gain = low, high, gain
        return rounded

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        x, scale, rounded = ctx.saved_tensors
        (gradient,) = gradients
        step = scale.item()
        inside = passed(gradient, x, ctx.low * step, ctx.high * step)
        outside = gradient - inside
        above = outside[x >= ctx.high * step].sum() * (ctx.high - ctx.low)
        scale_gradient = ((dot(inside, rounded) - dot(inside, x)) / scale + above) * ctx.gain
        return inside, scale_gradient, outside.sum() * ctx.gain, None, None, None


class RoundWeightToLearned(torch.autograd.Function):
    """The same for a weight with a step for each channel or group, and ends that zero points may move."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, scale: Tensor, zero_point: Tensor, ends: tuple[int, int], axis: int
    ) -> Tensor:
        step, zero = spread(scale, weight, axis), spread(zero_point, weight, axis)
        free = torch.div(weight, step)
        steps = free.round().add_(zero).clamp_(*ends).sub_(zero)
        ctx.save_for_backward(free, steps, scale, zero)
        ctx.ends, ctx.axis = ends, axis
        return steps * step

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        free, steps, scale, zero = ctx.saved_tensors
        (gradient,) = gradients
        inside = (free > ctx.ends[0] - zero) & (free < ctx.ends[1] - zero)
        of_steps = gathered(gradient * (steps - free * inside), scale, ctx.axis)
        gain = gradient_scale(steps.numel() // scale.numel(), ctx.ends[1])
        return gradient * inside, of_steps * gain, None, None, None


class LearnedActivation(ActivationQuantizer):
    """LSQ: one learned step; the zero point stays as calibration found it."""

    LEARNED: ClassVar[Sequence[str]] = ("scale",)
    POSITIVE: ClassVar[Sequence[str]] = ("scale",)
    OBSERVER: ClassVar[ObserverChoice] = MSE()
    scale: Tensor
    zero_point: Tensor

    @classmethod
    def fresh(cls, settings: Activations) -> dict[str, Tensor]:
        scale, zero_point = activation_grid(torch.zeros(()), torch.ones(()), settings)
        return {"scale": scale, "zero_point": zero_point.clone(), "seen": torch.zeros((), dtype=torch.int64)}

    def grid(self) -> Grid:
        return self.scale.detach(), self.zero_point

    def set_range(self, found: Range, num_batches: int) -> None:
        scale, zero_point = activation_grid(*found, self.settings)
        self.scale.data.copy_(scale)
        self.zero_point.copy_(zero_point)
        self.seen.fill_(num_batches)

    def rounded(self, x: Tensor) -> Tensor:
        low, high = self.ends()
        gain = gradient_scale(x[0].numel(), max(high, -low))
        learned: Tensor = RoundToLearned.apply(x, self.scale, low, high, gain)  # type: ignore[no-untyped-call]
        return learned


class OffsetActivation(LearnedActivation):
    """LSQ+: a learned step, and a learned lower end, in the activation's own units."""

    LEARNED: ClassVar[Sequence[str]] = ("scale", "offset")
    offset: Tensor

    @classmethod
    def fresh(cls, settings: Activations) -> dict[str, Tensor]:
        return {**super().fresh(settings), "offset": torch.zeros(())}

    def grid(self) -> Grid:
        lowest, highest, dtype = self.limits
        scale = self.scale.detach()
        zero_point = torch.round(lowest - self.offset.detach() / scale).clamp(lowest, highest)
        return scale, zero_point.to(dtype)

    def set_range(self, found: Range, num_batches: int) -> None:
        super().set_range(found, num_batches)
        steps = self.limits.lowest - self.zero_point.to(torch.float32)
        self.offset.data.copy_(steps * self.scale)

    def rounded(self, x: Tensor) -> Tensor:
        low, high = self.ends()
        gain = gradient_scale(x[0].numel(), max(high, -low))
        learned: Tensor = RoundToOffset.apply(x, self.scale, self.offset, low, high, gain)  # type: ignore[no-untyped-call]
        return learned


class LearnedWeight(WeightQuantizer):
    """LSQ: a learned step for each channel, group or the whole weight."""

    LEARNED: ClassVar[Sequence[str]] = ("scale",)
    POSITIVE: ClassVar[Sequence[str]] = ("scale",)

    def forward(self, weight: Tensor) -> Tensor:
        ends = self.limits.lowest, self.limits.highest
        zero_point = self.zero_point.to(weight.dtype)
        learned: Tensor = RoundWeightToLearned.apply(  # type: ignore[no-untyped-call]
            weight, self.scale, zero_point, ends, self.site.scale_axis
        )
        return learned


def dot(left: Tensor, right: Tensor) -> Tensor:
    """Return the sum of the products of two tensors' elements."""
    return torch.dot(left.reshape(-1), right.reshape(-1))
