"""Gradients in few bits: what each convolution and linear gets back, rounded with a scale for each sample.

Source: DoReFa-Net, Zhou et al. 2016, arXiv:1606.06160, section 2.5, eq. 12.
Differs: rounding to nearest (no noise) is there to compare with. The grid has no zero: rounded to nearest, a
gradient of exactly zero becomes half a step; with noise it is zero on average.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from mcomp.training.config import Gradients

aten = torch.ops.aten

# As modules call them, and as captured graphs do.
PRODUCTS = frozenset(
    {
        torch.conv1d,
        torch.conv2d,
        torch.conv3d,
        functional.linear,
        aten.conv1d.default,
        aten.conv2d.default,
        aten.conv2d.padding,
        aten.conv3d.default,
        aten.linear.default,
    }
)


def rounded_gradient(gradient: Tensor, bits: int, noise: Tensor | float) -> Tensor:
    """Return a gradient (first axis: samples) on 2**bits levels between -max and max of each sample.

    `noise` is uniform in [-0.5, 0.5] of a step, or 0 for rounding to nearest.
    """
    largest = gradient.abs().amax(tuple(range(1, gradient.ndim)), keepdim=True)
    largest = largest.clamp(min=torch.finfo(gradient.dtype).tiny)
    levels = 2**bits - 1
    steps = ((gradient / largest + 1) * (levels / 2)).add_(noise).round_().clamp_(0, levels)
    rounded: Tensor = steps.mul_(2 / levels).sub_(1).mul_(largest)
    return rounded


class RoundedGradients(TorchFunctionMode):
    """While it is entered, the gradients of what convolutions and linears give will be rounded.

    Noise comes from the global generator. `take_sums` gives what rounding did since it was last asked.
    """

    def __init__(self, gradients: Gradients) -> None:
        super().__init__()
        self.gradients = gradients
        self.sums: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in PRODUCTS and result.requires_grad:
            if result._is_view():  # the hook of a view is lost where an activation overwrites it
                result = result.clone()
            result.register_hook(self.rounded)
        return result

    def rounded(self, gradient: Tensor) -> Tensor:
        """Return a rounded gradient, and note the squares of the gradient and of the difference."""
        noise: Tensor | float = 0.0
        if self.gradients.rounding == "stochastic":
            noise = torch.rand_like(gradient).sub_(0.5)
        result = rounded_gradient(gradient, self.gradients.bits, noise)
        squares = [gradient.float().square().sum(), (result - gradient).float().square().sum()]
        self.sums.append(torch.stack(squares))
        return result

    def take_sums(self) -> tuple[float, float]:
        """Return the sums of squares of the gradients and of the differences since the last call."""
        signal, error = torch.stack(self.sums).double().sum(0).tolist() if self.sums else (0.0, 0.0)
        self.sums.clear()
        return signal, error
