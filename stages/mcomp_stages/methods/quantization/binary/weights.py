# O = output channels
"""Weights of one bit and of three values, with a scale for each output channel.

Sources: XNOR-Net, Rastegari et al. 2016, arXiv:1603.05279, eqs. 6 and 8; Ternary Weight Networks, Li et al.
2016, arXiv:1605.04711, eqs. 5 and 6. Differs: TWN's threshold and scale are per channel, not per layer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mcomp_stages.methods.quantization.fake_quantize import WeightIntegers, WeightQuantizer
from mcomp_stages.methods.quantization.grid import SMALLEST_SCALE, Grid, spread
from mcomp_stages.methods.quantization.rounding import gathered

THRESHOLD = 0.7  # of the mean |w|: TWN, eq. 6


def signs(x: Tensor) -> Tensor:
    """Return 1 where a value is not negative, else -1."""
    return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)


class RoundToSigns(torch.autograd.Function):
    """alpha sign(w); backwards (1/n + alpha 1[|w| <= 1]) times the gradient (XNOR-Net, eq. 8)."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, alpha: Tensor, share: float) -> Tensor:
        ctx.save_for_backward(weight, alpha)
        ctx.share = share
        return signs(weight) * alpha

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        weight, alpha = ctx.saved_tensors
        return gradients[0] * (ctx.share + alpha * (weight.abs() <= 1)), None, None


class RoundToThree(torch.autograd.Function):
    """Steps -1, 0, 1 times alpha; the gradient passes as it is (TWN, section 2.3)."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, steps: Tensor, alpha: Tensor) -> Tensor:
        return steps * alpha

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0], None, None


class BinaryWeight(WeightQuantizer):
    """The sign of a weight times the mean |w| of its channel, or a stored scale."""

    def grid(self, weight: Tensor) -> Grid:
        if self.site.scale == "stored":
            return self.scale.detach(), self.zero_point
        alpha_O = per_channel(weight.detach().abs(), self.site.axis).mean(1).clamp(min=SMALLEST_SCALE)
        return alpha_O, torch.zeros_like(alpha_O, dtype=torch.int8)

    def forward(self, weight: Tensor) -> Tensor:
        alpha_O, _ = self.grid(weight)
        alpha = spread(alpha_O, weight, self.site.axis)
        share = len(alpha_O) / weight.numel()  # 1/n: the mean moves with every weight of the channel
        rounded: Tensor = RoundToSigns.apply(weight, alpha, share)  # type: ignore[no-untyped-call]
        return rounded

    def integers(self, weight: Tensor) -> WeightIntegers:
        return WeightIntegers(signs(weight.detach()).to(torch.int8), *self.grid(weight))


class TernaryWeight(WeightQuantizer):
    """-1, 0 or 1 times the mean of those |w| that are above the threshold."""

    def grid(self, weight: Tensor) -> Grid:
        chosen = self.steps(weight).abs()
        like = torch.zeros(weight.shape[self.site.axis])
        total_O = gathered(weight.detach().abs() * chosen, like, self.site.axis)
        alpha_O = total_O / gathered(chosen, like, self.site.axis).clamp(min=1)
        return alpha_O.clamp(min=SMALLEST_SCALE), torch.zeros_like(alpha_O, dtype=torch.int8)

    def steps(self, weight: Tensor) -> Tensor:
        """Return -1, 0 or 1 for each weight."""
        size = weight.detach().abs()
        threshold_O = THRESHOLD * per_channel(size, self.site.axis).mean(1)
        return (size > spread(threshold_O, weight, self.site.axis)) * weight.detach().sign()

    def forward(self, weight: Tensor) -> Tensor:
        alpha = spread(self.grid(weight)[0], weight, self.site.axis)
        rounded: Tensor = RoundToThree.apply(weight, self.steps(weight), alpha)  # type: ignore[no-untyped-call]
        return rounded

    def integers(self, weight: Tensor) -> WeightIntegers:
        return WeightIntegers(self.steps(weight).to(torch.int8), *self.grid(weight))


def per_channel(weight: Tensor, axis: int) -> Tensor:
    """Return a weight as one row for each output channel."""
    return weight.movedim(axis, 0).flatten(1)
