# P = bytes of a row, K = its numbers
"""How weights in few bits, and products of integers, become ONNX operators."""

from __future__ import annotations

from collections.abc import Callable
from math import lcm
from typing import Any

import numpy as np
import onnx
import torch
from onnxscript import opset21
from onnxscript.values import Op, Opset

import mcomp_stages.methods.quantization.dynamic
import mcomp_stages.methods.quantization.weights.operators  # noqa: F401  both register torch.ops.mcomp
from mcomp_stages.methods.quantization.weights.pack import num_bytes
from mcomp_stages.methods.quantization.weights.record import STEPS_BITS

op: Any = opset21  # its annotations allow constants and results, and no expression of both
Schema = onnx.defs.OpSchema


def parameter(name: str, kind: str, optional: bool = False) -> Any:
    """Return one input or output of an operator."""
    option = Schema.FormalParameterOption.Optional if optional else Schema.FormalParameterOption.Single
    return Schema.FormalParameter(name, kind, param_option=option)


# ONNX Runtime's own operator, of which the onnx package has no schema.
MATMUL_NBITS = Op(
    Opset("com.microsoft", 1),
    "MatMulNBits",
    Schema(
        "MatMulNBits",
        "com.microsoft",
        1,
        inputs=[
            parameter("A", "T"),
            parameter("B", "tensor(uint8)"),
            parameter("scales", "T"),
            parameter("zero_points", "tensor(uint8)", optional=True),
        ],
        outputs=[parameter("Y", "T")],
        type_constraints=[("T", ["tensor(float)"], "what it computes in")],
        attributes=[Schema.Attribute(name, Schema.AttrType.INT) for name in ("K", "N", "bits", "block_size")],
    ),
)

FLOAT, INT64, UINT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.UINT64


def constant(values: Any, dtype: Any = np.int64) -> Any:
    """Return a constant tensor."""
    return op.Constant(value=onnx.numpy_helper.from_array(np.asarray(values, dtype=dtype)))


def unpack_rows(codes: Any, scale: Any, zero: Any, bits: int, group_size: int, num_columns: int) -> Any:
    """Numbers from packed bytes, in ordinary operators on integers.

    The runtime folds them when it loads the file, where they only read initializers. DequantizeLinear would
    be shorter, but ONNX Runtime never folds it, and unpacks again in each run.
    """
    num_groups = -(-num_columns // group_size)
    leading = [0] * (len(codes.shape) - 1)
    if bits == STEPS_BITS:
        steps = op.Cast(codes, to=FLOAT)
    elif zero is None:
        steps = op.Sub(unpacked(codes, bits, num_columns), constant(1 << (bits - 1), np.float32))
    else:
        steps = unpacked(codes, bits, num_columns)
    each_scale = op.Cast(scale, to=FLOAT)
    zeros = None if zero is None else unpacked(zero, bits, num_groups)
    if num_groups == 1:
        return op.Mul(steps if zeros is None else op.Sub(steps, zeros), each_scale)
    missing = num_groups * group_size - num_columns
    steps = op.Reshape(padded(steps, len(leading), missing), constant([*leading, num_groups, group_size]))
    steps = steps if zeros is None else op.Sub(steps, op.Unsqueeze(zeros, constant([-1])))
    rows = op.Reshape(op.Mul(steps, op.Unsqueeze(each_scale, constant([-1]))), constant([*leading, -1]))
    return cut(rows, num_columns, missing)


def padded(rows: Any, num_leading: int, missing: int) -> Any:
    """Rows with `missing` zeros at the end."""
    return op.Pad(rows, constant([0] * (2 * num_leading + 1) + [missing])) if missing else rows


def cut(rows: Any, num_columns: int, missing: int) -> Any:
    """Rows without what was filled up."""
    return op.Slice(rows, constant([0]), constant([num_columns]), constant([-1])) if missing else rows


def unpacked(codes: Any, bits: int, num_columns: int) -> Any:
    """The codes (..., K) of bytes (..., P), as floats.

    As many bytes as hold a whole number of codes make one large integer, which is shifted for each code.
    """
    if bits == 8:
        return op.Cast(codes, to=FLOAT)
    per_word, leading = lcm(bits, 8) // 8, [0] * (len(codes.shape) - 1)
    missing = -num_bytes(num_columns, bits) % per_word
    words = op.Reshape(
        padded(op.Cast(codes, to=INT64), len(leading), missing), constant([*leading, -1, per_word])
    )
    low = place_value(words, 0, min(per_word, 4))
    words = op.Add(low, place_value(words, 4, per_word)) if per_word > 4 else low
    num_codes = 8 * per_word // bits  # in a word
    shifts = constant([bits * place for place in range(num_codes)], np.uint64)
    shifted = op.BitShift(op.Cast(words, to=UINT64), shifts, direction="RIGHT")
    each: Any = op.Cast(op.BitwiseAnd(shifted, constant((1 << bits) - 1, np.uint64)), to=FLOAT)
    return cut(op.Reshape(each, constant([*leading, -1])), num_columns, -num_columns % num_codes)


def place_value(words: Any, first: int, end: int) -> Any:
    """The number that some bytes of each word (..., bytes) stand for (..., 1).

    At most four at once: sums of int64 in ONNX Runtime 1.32 are exact to 53 bits only.
    """
    digits = op.Slice(words, constant([first]), constant([end]), constant([-1]))
    worth = constant([1 << (8 * place) for place in range(first, end)])
    return op.ReduceSum(op.Mul(digits, worth), constant([-1]), keepdims=1)


def matmul_nbits(x: Any, codes: Any, scale: Any, zero: Any, bits: int, num_columns: int) -> Any:
    """ONNX Runtime's MatMulNBits, which computes in float."""
    num_rows, _, num_bytes = codes.shape
    operands = [x, codes, op.Reshape(op.Cast(scale, to=FLOAT), constant([-1]))]
    if zero is not None:
        operands.append(op.Reshape(zero, constant([-1])))
    group_size = num_bytes * 8 // bits
    return MATMUL_NBITS(*operands, K=num_columns, N=num_rows, bits=bits, block_size=group_size)


def dynamic_quantize_linear(x: Any) -> Any:
    """ONNX DynamicQuantizeLinear."""
    return op.DynamicQuantizeLinear(x)


def matmul_integer(integers: Any, weight: Any, zero_point: Any) -> Any:
    """ONNX MatMulInteger."""
    return op.MatMulInteger(integers, weight, zero_point)


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.mcomp.unpack_rows.default: unpack_rows,
    torch.ops.mcomp.matmul_nbits.default: matmul_nbits,
    torch.ops.mcomp.dynamic_quantize_linear.default: dynamic_quantize_linear,
    torch.ops.mcomp.matmul_integer.default: matmul_integer,
}
