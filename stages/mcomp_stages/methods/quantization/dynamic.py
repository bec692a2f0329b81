# N = outputs of a linear, K = its inputs
"""Products of integers whose inputs are rounded as they come: `DynamicQuantizeLinear` and `MatMulInteger`.

The semantics are those of ONNX. The runtime fuses both with what follows into one operator.
"""

from __future__ import annotations

import torch
from torch import Tensor


@torch.library.custom_op("mcomp::dynamic_quantize_linear", mutates_args=())
def dynamic_quantize_linear(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return `x` in uint8 over the range that it has, and the scale and zero point of that grid.

    The range always holds zero; it is that of the whole batch.
    """
    low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
    scale = (high - low) / 255
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    zero_point = torch.round(-low / scale).clamp(0, 255)
    integers = (torch.round(x / scale) + zero_point).clamp(0, 255)
    return integers.to(torch.uint8), scale, zero_point.to(torch.uint8)


@dynamic_quantize_linear.register_fake
def _(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x, dtype=torch.uint8), x.new_empty(()), x.new_empty((), dtype=torch.uint8)


@torch.library.custom_op("mcomp::matmul_integer", mutates_args=())
def matmul_integer(integers: Tensor, weight_KN: Tensor, zero_point: Tensor) -> Tensor:
    """Return the int32 product of uint8 `integers` (..., K), less their zero point, and an int8 weight."""
    # In float64, which holds every such sum; torch has no fast product of integers.
    centred = integers.double() - zero_point.double()
    return (centred @ weight_KN.double()).to(torch.int32)


@matmul_integer.register_fake
def _(integers: Tensor, weight_KN: Tensor, zero_point: Tensor) -> Tensor:
    return integers.new_empty((*integers.shape[:-1], weight_KN.shape[1]), dtype=torch.int32)
