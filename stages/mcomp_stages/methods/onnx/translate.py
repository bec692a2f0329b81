"""How the operators of `mcomp` become ONNX operators: one to one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset21 as op

import mcomp_stages.methods.half.operators
import mcomp_stages.methods.quantization.operators  # noqa: F401  both register torch.ops.mcomp


def quantize_linear(x: Any, scale: Any, zero_point: Any, axis: int) -> Any:
    """ONNX QuantizeLinear; its output type is that of the zero point."""
    return op.QuantizeLinear(x, scale, zero_point, axis=axis)


def dequantize_linear(x: Any, scale: Any, zero_point: Any, axis: int) -> Any:
    """ONNX DequantizeLinear; a scale with as many axes as `x` is for blocks along `axis`."""
    blocks = len(scale.shape) == len(x.shape) > 1
    block_size = x.shape[axis] // scale.shape[axis] if blocks else 0
    return op.DequantizeLinear(x, scale, zero_point, axis=axis, block_size=block_size)


def global_average_pool(x: Any) -> Any:
    """ONNX GlobalAveragePool."""
    return op.GlobalAveragePool(x)


def conv_half(x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    """ONNX Conv; the runtime computes it in the type of its inputs."""
    inputs = (x, weight) if bias is None else (x, weight, bias)
    pads = [*padding, *padding]  # before each axis, then behind
    return op.Conv(*inputs, strides=list(stride), pads=pads, dilations=list(dilation), group=groups)


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.mcomp.quantize_linear.default: quantize_linear,
    torch.ops.mcomp.dequantize_linear.default: dequantize_linear,
    torch.ops.mcomp.global_average_pool.default: global_average_pool,
    torch.ops.mcomp.conv_half.default: conv_half,
}
