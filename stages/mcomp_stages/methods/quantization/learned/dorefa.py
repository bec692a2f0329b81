"""Weights through a hyperbolic tangent, activations cut at 1.

Source: DoReFa-Net, Zhou et al. 2016, arXiv:1606.06160, eqs. 9 and 11.
Differs: the grid of weights has a zero (2**k - 1 levels), so that pruned weights stay zero and integers are
those of the runtimes, and is as wide as the weights are, for each channel, so that a trained network starts
near itself; activations with negative values are cut at -1 as well.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from mcomp_stages.methods.quantization.config import Activations
from mcomp_stages.methods.quantization.fake_quantize import (
    ActivationQuantizer,
    WeightIntegers,
    WeightQuantizer,
)
from mcomp_stages.methods.quantization.grid import (
    SMALLEST_SCALE,
    Grid,
    activation_grid,
    spread,
    symmetric_grid,
    weight_range,
)
from mcomp_stages.methods.quantization.observers.config import MinMax, ObserverChoice
from mcomp_stages.methods.quantization.observers.observer import Range
from mcomp_stages.methods.quantization.rounding import RoundThrough
from mcomp_stages.methods.quantization.sites import WeightSite


class UnitActivation(ActivationQuantizer):
    """A grid over [0, 1], or over [-1, 1] where values were negative."""

    OBSERVER: ClassVar[ObserverChoice] = MinMax()
    zero_point: Tensor

    @classmethod
    def fresh(cls, settings: Activations) -> dict[str, Tensor]:
        _, zero_point = activation_grid(torch.zeros(()), torch.ones(()), settings)
        return {"zero_point": zero_point.clone(), "seen": torch.zeros((), dtype=torch.int64)}

    def set_range(self, found: Range, num_batches: int) -> None:
        _, zero_point = symmetric_grid(found[0].clamp(max=0), found[1].clamp(min=0), self.limits)
        self.zero_point.copy_(zero_point)
        self.seen.fill_(num_batches)

    def grid(self) -> Grid:
        return 1.0 / (self.limits.highest - self.zero_point.to(torch.float32)), self.zero_point

    def rounded(self, x: Tensor) -> Tensor:
        return self.on_grid(x)


class TanhWeight(WeightQuantizer):
    """Round tanh(w) / max tanh|w| to a symmetric grid, which reaches as far as the weight."""

    def forward(self, weight: Tensor) -> Tensor:
        unit = squashed(weight, self.site)
        steps: Tensor = RoundThrough.apply(unit * self.limits.highest)  # type: ignore[no-untyped-call]  # torch's
        return steps * spread(self.grid(weight)[0], weight, self.site.scale_axis)

    def integers(self, weight: Tensor) -> WeightIntegers:
        steps = (squashed(weight.detach(), self.site) * self.limits.highest).round()
        return WeightIntegers(steps.to(self.limits.dtype), *self.grid(weight))


def squashed(weight: Tensor, site: WeightSite) -> Tensor:
    """Return tanh(w) / max tanh|w|, between -1 and 1, with the largest of what shares a scale."""
    low, high = weight_range(weight, site, site.axis)
    largest = torch.maximum(-low, high).clamp(min=SMALLEST_SCALE).tanh()
    return weight.tanh() / spread(largest, weight, site.scale_axis)
