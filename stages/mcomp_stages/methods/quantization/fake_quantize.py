"""Quantizers for training whose grids follow the data and the weights, or stay.

Other ways to train a grid are in `learned`; what stands at a site is chosen in `learned.choice`.
Source: Jacob et al. 2018, arXiv:1712.05877.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple

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
from mcomp_stages.methods.quantization.observers.config import MinMax, ObserverChoice
from mcomp_stages.methods.quantization.observers.extremes import towards
from mcomp_stages.methods.quantization.observers.observer import Integers, Range
from mcomp_stages.methods.quantization.rounding import RoundActivation, RoundToLimits, RoundWeight
from mcomp_stages.methods.quantization.sites import WeightSite

# How far a range goes towards that of a training batch: it looks back over some 20 batches.
NEWEST = 0.05


class Quantizer(nn.Module):
    """Holds tensors by name: those in LEARNED as parameters, the others as buffers.

    Those in POSITIVE make no sense at zero or below it.
    """

    LEARNED: ClassVar[Sequence[str]] = ()
    POSITIVE: ClassVar[Sequence[str]] = ()

    def hold(self, state: Mapping[str, Tensor]) -> None:
        """Register the tensors of a state."""
        for name, tensor in state.items():
            if name in self.LEARNED:
                self.register_parameter(name, nn.Parameter(tensor))
            else:
                self.register_buffer(name, tensor)


class ActivationQuantizer(Quantizer):
    """Quantize one activation per tensor, on a grid whose range follows the data for a while.

    Buffers: `low` and `high`, the range; `seen`, how many calibration batches gave it; `updates_left`, how
    many more training steps move it. While `watch` is set, values are shown to it and pass as they are.
    """

    OBSERVER: ClassVar[ObserverChoice] = MinMax()
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
        self.hold(self.fresh(self.settings) if state is None else state)
        self.watch: Callable[[Tensor], None] | None = None

    @classmethod
    def fresh(cls, settings: Activations) -> dict[str, Tensor]:
        """Return the tensors of one that has seen nothing."""
        return {
            "low": torch.zeros(()),
            "high": torch.zeros(()),
            "seen": torch.zeros((), dtype=torch.int64),
            "updates_left": torch.zeros((), dtype=torch.int64),
        }

    def forward(self, x: Tensor) -> Tensor:
        if self.watch is not None:
            self.watch(x.detach())
            return x
        return self.rounded(x)

    def rounded(self, x: Tensor) -> Tensor:
        """Return values on the grid, which follows them first if it still does."""
        if self.training and self.updates_left > 0:
            self.follow(x.detach())
        return self.on_grid(x)

    def on_grid(self, x: Tensor) -> Tensor:
        """Return values rounded to the grid."""
        scale, _ = self.grid()
        rounded: Tensor = RoundActivation.apply(x, scale, *self.ends())  # type: ignore[no-untyped-call]  # torch's
        return rounded

    def grid(self) -> Grid:
        """Return the float32 scale and the zero point, both scalars."""
        return activation_grid(self.low, self.high, self.settings)

    def ends(self) -> tuple[int, int]:
        """Return how many steps the grid reaches below zero, negative or zero, and above."""
        zero_point = int(self.grid()[1])
        return self.limits.lowest - zero_point, self.limits.highest - zero_point

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


class FixedActivation(ActivationQuantizer):
    """The grid that calibration found."""

    OBSERVER: ClassVar[ObserverChoice] = MinMax()

    def rounded(self, x: Tensor) -> Tensor:
        return self.on_grid(x)


class WeightIntegers(NamedTuple):
    """A weight in integers: what it stands for is (integers - zero_point) * scale.

    All three as `WeightQuantizer` rounds; the scale and zero point are shaped as in `grid`.
    """

    integers: Tensor
    scale: Tensor
    zero_point: Tensor


class WeightQuantizer(Quantizer):
    """Quantize a weight as its site says.

    With `scale: stored` the grid is in the buffers `scale` and `zero_point`; else it follows the weight.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, site: WeightSite | None = None, state: Mapping[str, Tensor] | None = None) -> None:
        super().__init__()
        self.site = site or WeightSite()
        self.limits = weight_limits(self.site)
        self.hold(state or {})

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
            return self.scale.detach(), self.zero_point
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
