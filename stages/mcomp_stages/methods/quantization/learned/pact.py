"""Activations that are cut where training finds best.

Source: PACT, Choi et al. 2018, arXiv:1805.06085, eqs. 1 to 3.
Differs: an activation with negative values is cut below zero as well, at the same share of the levels as
calibration gave it; then both ends move with alpha.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from mcomp_stages.methods.quantization.config import Activations
from mcomp_stages.methods.quantization.fake_quantize import ActivationQuantizer
from mcomp_stages.methods.quantization.grid import Grid, activation_grid
from mcomp_stages.methods.quantization.observers.config import MinMax, ObserverChoice
from mcomp_stages.methods.quantization.observers.observer import Range
from mcomp_stages.methods.quantization.rounding import nearest_steps, passed


class RoundToClip(torch.autograd.Function):
    """Round to steps between `low` and `high`; `alpha` gets the gradient of what was cut (eq. 3)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
        ctx.save_for_backward(x, scale)
        ctx.low, ctx.high = low, high
        return nearest_steps(x, scale, low, high).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        x, scale = ctx.saved_tensors
        (gradient,) = gradients
        step = scale.item()
        inside = passed(gradient, x, ctx.low * step, ctx.high * step)
        cut = gradient - inside
        above = cut[x >= ctx.high * step].sum()
        widest = max(ctx.high, -ctx.low)
        moved = (above * ctx.high + (cut.sum() - above) * ctx.low) / widest
        return inside, moved, None, None, None


class ClippedActivation(ActivationQuantizer):
    """One learned end, `alpha`: the farther one from zero."""

    LEARNED: ClassVar[Sequence[str]] = ("alpha",)
    POSITIVE: ClassVar[Sequence[str]] = ("alpha",)
    OBSERVER: ClassVar[ObserverChoice] = MinMax()
    alpha: Tensor
    zero_point: Tensor

    @classmethod
    def fresh(cls, settings: Activations) -> dict[str, Tensor]:
        _, zero_point = activation_grid(torch.zeros(()), torch.ones(()), settings)
        seen = torch.zeros((), dtype=torch.int64)
        return {"alpha": torch.ones(()), "zero_point": zero_point.clone(), "seen": seen}

    def set_range(self, found: Range, num_batches: int) -> None:
        scale, zero_point = activation_grid(*found, self.settings)
        self.zero_point.copy_(zero_point)
        self.alpha.data.copy_(scale * self.widest())
        self.seen.fill_(num_batches)

    def widest(self) -> int:
        """Return the steps between zero and the farther end."""
        zero_point = int(self.zero_point)
        return max(self.limits.highest - zero_point, zero_point - self.limits.lowest)

    def grid(self) -> Grid:
        return self.alpha.detach() / self.widest(), self.zero_point

    def rounded(self, x: Tensor) -> Tensor:
        clipped: Tensor = RoundToClip.apply(x, self.alpha, self.grid()[0], *self.ends())  # type: ignore[no-untyped-call]
        return clipped
