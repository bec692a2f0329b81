"""Quantizers for training: round to the grid on the way forward, let the gradient through on the way back.

The grids are those of `operators`: activations uint8 per tensor with a zero point, weights int8 per output
channel, symmetric. The forward pass uses the arithmetic of the operators to the last bit, so that a
converted model equals the trained one. torch's own `fake_quantize_*` kernels multiply by the inverse scale
and round after the zero point is added, which breaks ties another way, and take over three times as long on
a CPU; its fused moving-average kernel is not symmetric for channels of one sign.
Source: Jacob et al. 2018, arXiv:1712.05877.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mcomp_stages.methods.quantization.observers.extremes import towards
from mcomp_stages.methods.quantization.observers.observer import Integers, Range
from mcomp_stages.methods.quantization.operators import along

# Below any scale that data gives; products of two of them are still normal float32 numbers.
SMALLEST_SCALE = 1e-12
# How far a range goes towards that of a training batch: it looks back over some 20 batches.
NEWEST = 0.05


def activation_grid(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return the float32 scale and uint8 zero point of the grid over [low, high] that holds zero exactly."""
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = ((high - low) / 255).clamp(min=SMALLEST_SCALE)
    return scale, torch.round(-low / scale).clamp(0, 255).to(torch.uint8)


def weight_scale(weight: Tensor, bits: int) -> Tensor:
    """Return the scale of each output channel: its largest absolute weight becomes 127 (8 bits), 63 (7)."""
    largest: int = 2 ** (bits - 1) - 1
    return (weight.detach().abs().flatten(1).amax(1) / largest).clamp(min=SMALLEST_SCALE)


class RoundActivation(torch.autograd.Function):
    """Round to a uint8 grid; the gradient passes where the value was not saturated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        offset = zero_point.to(x.dtype)
        ctx.save_for_backward(x, (-0.5 - offset) * scale, (255.5 - offset) * scale)
        return torch.div(x, scale).round_().add_(offset).clamp_(0, 255).sub_(offset).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        x, low, high = ctx.saved_tensors
        # One vectorised pass over the gradient instead of a comparison, a mask and a product.
        return torch.ops.aten.hardtanh_backward(gradients[0], x, low.item(), high.item()), None, None


class RoundWeight(torch.autograd.Function):
    """Round to the int8 grid of each output channel; nothing saturates, so the whole gradient passes."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, scale: Tensor) -> Tensor:
        spread = along(scale, weight, 0)
        return torch.div(weight, spread).round_().mul_(spread)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class ActivationQuantizer(nn.Module):
    """Quantize one activation per tensor to uint8.

    Buffers: `low` and `high`, the range; `seen`, how many calibration batches gave it; `updates_left`, how
    many more training steps move it. While `watch` is set, values are shown to it and pass as they are.
    """

    low: Tensor
    high: Tensor
    seen: Tensor
    updates_left: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, tensor in fresh_state().items():
            self.register_buffer(name, tensor)
        self.watch: Callable[[Tensor], None] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.watch is not None:
            self.watch(x.detach())
            return x
        if self.training and self.updates_left > 0:
            self.follow(x.detach())
        rounded: Tensor = RoundActivation.apply(x, *self.grid())  # type: ignore[no-untyped-call]  # torch's
        return rounded

    def grid(self) -> tuple[Tensor, Tensor]:
        """Return the float32 scale and uint8 zero point, both scalars."""
        return activation_grid(self.low, self.high)

    def integers(self) -> Integers:
        """Return what a range has to be found for."""
        return Integers(levels=256)

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


class WeightQuantizer(nn.Module):
    """Quantize a weight per output channel (axis 0), in int8 of `bits` bits; the scale follows the weight."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def forward(self, weight: Tensor) -> Tensor:
        rounded: Tensor = RoundWeight.apply(weight, weight_scale(weight, self.bits))  # type: ignore[no-untyped-call]
        return rounded


def weight_integers(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Return the int8 weight and the scale of each output channel, as `WeightQuantizer` rounds."""
    scale = weight_scale(weight, bits)
    return torch.div(weight.detach(), along(scale, weight, 0)).round_().to(torch.int8), scale
