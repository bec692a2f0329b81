# C = channels, on the second axis
"""Activations of one bit, and the activation function of networks that have them.

Sources: Bi-Real Net, Liu et al. 2018, arXiv:1808.00278, eq. 7 (the gradient of the sign); ReActNet, Liu et
al. 2020, arXiv:2003.03488, eqs. 5 and 6 (RSign, RPReLU).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from mcomp_stages.methods.quantization.binary.weights import signs
from mcomp_stages.methods.quantization.fake_quantize import Quantizer

FIRST_SLOPE = 0.25  # of torch's PReLU


class SignThrough(torch.autograd.Function):
    """The sign; backwards 2 - 2|x| times the gradient where |x| < 1, else nothing."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return signs(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        slope: Tensor = (2 - 2 * x.abs()).clamp_(min=0)
        return gradients[0] * slope


class SignInput(Quantizer):
    """1 where an input reaches the threshold of its channel, else -1 (RSign)."""

    LEARNED: ClassVar[Sequence[str]] = ("threshold",)
    threshold: Tensor

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.hold(state)

    @staticmethod
    def fresh(num_channels: int) -> dict[str, Tensor]:
        """Return thresholds of zero."""
        return {"threshold": torch.zeros(num_channels)}

    def forward(self, x: Tensor) -> Tensor:
        shifted = x - along_channels(self.threshold, x)
        if not self.training:
            return signs(shifted)
        through: Tensor = SignThrough.apply(shifted)  # type: ignore[no-untyped-call]
        return through


class ShiftedPReLU(Quantizer):
    """PReLU(x - before) + after, each with a number for every channel (RPReLU)."""

    LEARNED: ClassVar[Sequence[str]] = ("before", "slope", "after")
    before: Tensor
    slope: Tensor
    after: Tensor

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.hold(state)

    @staticmethod
    def fresh(num_channels: int) -> dict[str, Tensor]:
        """Return no shifts and torch's slope."""
        zeros = torch.zeros(num_channels)
        return {"before": zeros, "slope": zeros + FIRST_SLOPE, "after": zeros.clone()}

    def forward(self, x: Tensor) -> Tensor:
        bent = functional.prelu(x - along_channels(self.before, x), self.slope)
        return bent + along_channels(self.after, x)


def along_channels(numbers_C: Tensor, x: Tensor) -> Tensor:
    """Return numbers shaped to broadcast over a batch (N, C, ...)."""
    return numbers_C.reshape(1, -1, *[1] * (x.ndim - 2))
