"""Grids of almost 8 bits that are exact in the fast kernels of processors without VNNI.

There ONNX Runtime multiplies an unsigned byte with a signed one and adds two such products in 16 bits, which
saturate. 255 * (|a| + |b|) stays below 2^15 while |a| + |b| is at most 128, for each two weights a and b that
the kernel adds: neighbours in the order kernel position, then input channel. Weights of 7 bits always fit.
But two large weights are seldom neighbours: a grid that is coarser only as far as the worst pair of its
channel needs keeps half of the eighth bit, and more where a channel's largest weight stands alone.

Depthwise convolutions are computed without such sums, so they need nothing.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

# 128, less one step for each of two weights that are rounded up.
MOST_STEPS = 126


def pair_ranges(weight: Tensor, axis: int) -> Tensor:
    """Return for each slice of `axis` (C,) the largest |a| + |b| of two neighbours in the kernel's order.

    The weight is (O, I, ...) with its channels on `axis` 0 or 1; what is left over stands alone.
    """
    rows = weight.detach().movedim(axis, 0).movedim(1, -1).flatten(1).abs()
    padded = functional.pad(rows, (0, rows.shape[1] % 2))
    return (padded[:, ::2] + padded[:, 1::2]).amax(1)


def smallest_scale(weight: Tensor, axis: int, per: str) -> Tensor:
    """Return the finest scale, () or (C,), with which no two neighbours add up to more than 128 steps."""
    ranges = pair_ranges(weight, axis)
    return (ranges.amax() if per == "tensor" else ranges) / MOST_STEPS


def adds_no_pairs(layer: nn.Module) -> bool:
    """Whether a layer is a depthwise convolution: each output channel reads one input channel of its own."""
    groups, inputs, outputs = (
        getattr(layer, name, None) for name in ("groups", "in_channels", "out_channels")
    )
    return isinstance(groups, int) and groups > 1 and groups == inputs == outputs
