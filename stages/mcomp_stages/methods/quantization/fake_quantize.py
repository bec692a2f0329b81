"""Quantizers for training: round to the grid on the way forward, let the gradient through on the way back.

The forward pass uses the arithmetic of `operators` to the last bit, so that a converted model equals the
trained one. torch's own `fake_quantize_*` kernels multiply by the inverse scale and round after the zero
point is added, which breaks ties another way, and take over three times as long on a CPU; its fused
moving-average kernel is not symmetric for channels of one sign.
Source: Jacob et al. 2018, arXiv:1712.05877.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mcomp_stages.methods.quantization.config import Activations
from mcomp_stages.methods.quantization.grid import (
    Grid,
    activation_grid,
    activation_limits,
    spread,
    weight_grid,
    weight_limits,
)
from mcomp_stages.methods.quantization.observers.extremes import towards
from mcomp_stages.methods.quantization.observers.observer import Integers, Range
from mcomp_stages.methods.quantization.sites import WeightSite

# How far a range goes towards that of a training batch: it looks back over some 20 batches.
NEWEST = 0.05


class RoundActivation(torch.autograd.Function):
    """Round to a grid; the gradient passes where the value was not saturated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor, lowest: int, highest: int) -> Tensor:
        offset = zero_point.to(x.dtype)
        ctx.save_for_backward(x, (lowest - 0.5 - offset) * scale, (highest + 0.5 - offset) * scale)
        return torch.div(x, scale).round_().add_(offset).clamp_(lowest, highest).sub_(offset).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        x, low, high = ctx.saved_tensors
        # One vectorised pass over the gradient instead of a comparison, a mask and a product.
        passed = torch.ops.aten.hardtanh_backward(gradients[0], x, low.item(), high.item())
        return passed, None, None, None, None


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


class ActivationQuantizer(nn.Module):
    """Quantize one activation per tensor.

    Buffers: `low` and `high`, the range; `seen`, how many calibration batches gave it; `updates_left`, how
    many more training steps move it. While `watch` is set, values are shown to it and pass as they are.
    """

    low: Tensor
    high: Tensor
    seen: Tensor
    updates_left: Tensor

    def __init__(
        self, settings: Activations | None = None, state: Mapping[str, Tensor] | None = None
    ) -> None:
        super().__init__()
        self.settings = settings or Activations()
        self.limits = activation_limits(self.settings)
        for name, tensor in (state or fresh_state()).items():
            self.register_buffer(name, tensor)
        self.watch: Callable[[Tensor], None] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.watch is not None:
            self.watch(x.detach())
            return x
        if self.training and self.updates_left > 0:
            self.follow(x.detach())
        ends = self.limits.lowest, self.limits.highest
        rounded: Tensor = RoundActivation.apply(x, *self.grid(), *ends)  # type: ignore[no-untyped-call]  # torch's
        return rounded

    def grid(self) -> Grid:
        """Return the float32 scale and the zero point, both scalars."""
        return activation_grid(self.low, self.high, self.settings)

    def integers(self) -> Integers:
        """Return what a range has to be found for."""
        lowest, highest, _ = self.limits
        # An unsigned symmetric grid is one-sided where the values are: both sides are looked for.
        return Integers(highest - lowest + 1, symmetric=self.settings.symmetric and self.settings.signed)

    def set_range(self, found: Range, num_batches: int) -> None:
        """Take the range that so many calibration batches gave."""
        self.low.copy_(found[0])
        self.high.copy_(found[1])
        self.seen.fill_(num_batches)

    def follow(self, x: Tensor) -> None:
        """Move the range a little towards a training batch's."""
        batch = torch.aminmax(x)
        low, high = towards((self.low, self.high), (batch.min, batch.max), NEWEST)
        self.low.copy_(low)
        self.high.copy_(high)
        self.updates_left -= 1


def fresh_state() -> dict[str, Tensor]:
    """Return the buffers of an activation quantizer that has seen nothing."""
    return {
        "low": torch.zeros(()),
        "high": torch.zeros(()),
        "seen": torch.zeros((), dtype=torch.int64),
        "updates_left": torch.zeros((), dtype=torch.int64),
    }


class WeightIntegers(NamedTuple):
    """A weight in integers: what it stands for is (integers - zero_point) * scale.

    All three as `WeightQuantizer` rounds; the scale and zero point are shaped as in `grid`.
    """

    integers: Tensor
    scale: Tensor
    zero_point: Tensor


class WeightQuantizer(nn.Module):
    """Quantize a weight as its site says.

    With `scale: stored` the grid is in the buffers `scale` and `zero_point`; else it follows the weight.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, site: WeightSite | None = None, state: Mapping[str, Tensor] | None = None) -> None:
        super().__init__()
        self.site = site or WeightSite()
        self.limits = weight_limits(self.site)
        for name, tensor in (state or {}).items():
            self.register_buffer(name, tensor)

    def forward(self, weight: Tensor) -> Tensor:
        scale, zero_point = (spread(part, weight, self.site.scale_axis) for part in self.grid(weight))
        if self.site.symmetric and self.site.scale == "follows":
            rounded: Tensor = RoundWeight.apply(weight, scale)  # type: ignore[no-untyped-call]  # torch's
            return rounded
        ends = self.limits.lowest, self.limits.highest
        limited: Tensor = RoundToLimits.apply(weight, scale, zero_point, *ends)  # type: ignore[no-untyped-call]
        return limited

    def grid(self, weight: Tensor) -> Grid:
        """Return the scale and the zero point."""
        if self.site.scale == "stored":
            return self.scale, self.zero_point
        return weight_grid(weight, self.site, self.site.axis)

    def integers(self, weight: Tensor) -> WeightIntegers:
        """Return the integers that `forward` rounds to."""
        grid, axis = self.grid(weight), self.site.scale_axis
        scale, zero_point = (spread(part, weight, axis) for part in grid)
        rounded = torch.div(weight.detach(), scale).round_().add_(zero_point)
        lowest, highest, dtype = self.limits
        return WeightIntegers(rounded.clamp_(lowest, highest).to(dtype), *grid)


def stored_grid(weight: Tensor, site: WeightSite) -> dict[str, Tensor]:
    """Return the buffers of a weight's quantizer: none if the scale follows it, else the grid over it now."""
    if site.scale == "follows":
        return {}
    scale, zero_point = weight_grid(weight, site, site.axis)
    return {"scale": scale, "zero_point": zero_point}
