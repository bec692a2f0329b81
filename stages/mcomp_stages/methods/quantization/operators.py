"""`mcomp::quantize_linear` and `mcomp::dequantize_linear`: the ONNX operators as operators of torch.

Semantics of ONNX opset 21: divide by the scale, round half to even, add the zero point, saturate. The integer
type is that of the zero point (8 or 16 bits; int32 only to dequantize a bias). A scalar scale is for the
whole tensor, one with one axis per slice of `axis`, one with as many axes as `x` per block along `axis`.
`mcomp_stages.methods.onnx` exports them one to one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mcomp_stages.methods.quantization.grid import spread


@torch.library.custom_op("mcomp::quantize_linear", mutates_args=())
def quantize_linear(x: Tensor, scale: Tensor, zero_point: Tensor, axis: int) -> Tensor:
    """Return the integers of `x`, in the type of `zero_point`."""
    limits = torch.iinfo(zero_point.dtype)
    rounded = torch.round(x / spread(scale, x, axis))
    return (
        rounded.add_(spread(zero_point.to(x.dtype), x, axis))
        .clamp_(limits.min, limits.max)
        .to(zero_point.dtype)
    )


@quantize_linear.register_fake
def _(x: Tensor, scale: Tensor, zero_point: Tensor, axis: int) -> Tensor:
    return torch.empty_like(x, dtype=zero_point.dtype)


@torch.library.custom_op("mcomp::dequantize_linear", mutates_args=())
def dequantize_linear(x: Tensor, scale: Tensor, zero_point: Tensor, axis: int) -> Tensor:
    """Return the numbers that the integers `x` stand for, in the type of `scale`."""
    # int32 before the subtraction: uint8 would wrap around, and float32 cannot hold every bias.
    centred = x.to(torch.int32) - spread(zero_point.to(torch.int32), x, axis)
    return centred * spread(scale, x, axis)


@dequantize_linear.register_fake
def _(x: Tensor, scale: Tensor, zero_point: Tensor, axis: int) -> Tensor:
    return torch.empty_like(x, dtype=scale.dtype)


@torch.library.custom_op("mcomp::global_average_pool", mutates_args=())
def global_average_pool(x: Tensor) -> Tensor:
    """Return the mean over the last two axes of an image batch (N, C, H, W), kept with size 1.

    Its own operator because the runtime has integers for ONNX GlobalAveragePool and none for ReduceMean.
    """
    return x.mean((2, 3), keepdim=True)


@global_average_pool.register_fake
def _(x: Tensor) -> Tensor:
    return x.new_empty((x.shape[0], x.shape[1], 1, 1))
