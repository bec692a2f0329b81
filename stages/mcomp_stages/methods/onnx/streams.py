"""Integers of 2 bits and of 1 in an ONNX file: four and eight in a byte, and the operators that unpack them.

ONNX has no such types at the opsets that runtimes read, so the file holds bytes and says how they become int8
or uint8: shift, mask, reshape, move by an offset. Runtimes compute that once, on loading.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


@dataclass(frozen=True)
class Stream:
    """How codes of few bits stand for integers: gain * code - offset."""

    bits: int
    gain: int = 1
    offset: int = 0

    @property
    def per_byte(self) -> int:
        """Codes in a byte, the first in the lowest bits."""
        return 8 // self.bits

    @property
    def is_signed(self) -> bool:
        """Whether the integers are steps around zero."""
        return self.offset > 0


# By how the name of an initializer ends. One bit stands for -1 or 1.
STREAMS = {"int2": Stream(2, offset=2), "uint2": Stream(2), "int1": Stream(1, gain=2, offset=1)}
WIDENED = "_widened"  # behind it, where they become int8 for the integer kernels


def stream_of(name: str) -> Stream | None:
    """Return how integers of a name that says so lie in bytes."""
    return STREAMS.get(name.removesuffix(WIDENED).rpartition("_")[2])


def streamed(values: np.ndarray, stream: Stream, name: str) -> TensorProto:
    """Return integers as a column of bytes."""
    codes = ((values.reshape(-1).astype(np.int32) + stream.offset) // stream.gain).astype(np.uint8)
    codes = np.append(codes, np.zeros(-codes.size % stream.per_byte, dtype=np.uint8))
    shifts = np.arange(stream.per_byte, dtype=np.uint8) * stream.bits
    column = np.bitwise_or.reduce(codes.reshape(-1, stream.per_byte) << shifts, axis=1, keepdims=True)
    return numpy_helper.from_array(column.astype(np.uint8), name)


def unpacking(
    graph: onnx.GraphProto,
    name: str,
    prefix: str,
    stream: Stream,
    dims: Sequence[int],
    zero_point: np.ndarray | None,
) -> Iterator[onnx.NodeProto]:
    """Yield the operators from bytes to `<prefix>:integers`: int8 around zero, or uint8 codes.

    Codes with a `zero_point` become int8 around it. Adds the constants that they read to the graph.
    """

    def constant(part: str, values: np.ndarray) -> str:
        graph.initializer.append(numpy_helper.from_array(values, f"{prefix}:{part}"))
        return f"{prefix}:{part}"

    def shared(part: str, values: np.ndarray) -> str:
        known = f"bits{stream.bits}:{part}"  # of all weights of this width
        if all(each.name != known for each in graph.initializer):
            graph.initializer.append(numpy_helper.from_array(values, known))
        return known

    def step(operator: str, inputs: list[str], part: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(operator, inputs, [f"{prefix}:{part}"], **attributes)

    shifts = shared("shifts", np.arange(stream.per_byte, dtype=np.uint8) * stream.bits)
    mask = shared("mask", np.array((1 << stream.bits) - 1, dtype=np.uint8))
    yield step("BitShift", [name, shifts], "shifted", direction="RIGHT")
    yield step("BitwiseAnd", [f"{prefix}:shifted", mask], "codes")
    codes, num_codes = f"{prefix}:codes", int(np.prod(dims))
    if num_codes % stream.per_byte:  # the last byte is filled up
        yield step("Reshape", [codes, shared("flat", np.array([-1]))], "row")
        ends = [shared("first", np.array([0])), constant("end", np.array([num_codes]))]
        yield step("Slice", [f"{prefix}:row", *ends], "cut")
        codes = f"{prefix}:cut"
    shape = constant("dims", np.array(dims, dtype=np.int64))
    if not stream.is_signed and zero_point is None:
        yield step("Reshape", [codes, shape], "integers")
        return
    yield step("Reshape", [codes, shape], "shaped")
    yield step("Cast", [f"{prefix}:shaped"], "wide", to=TensorProto.INT32)  # runtimes subtract in int32 only
    gained = f"{prefix}:wide"
    if stream.gain > 1:
        yield step("Mul", [gained, shared("gain", np.array(stream.gain, dtype=np.int32))], "gained")
        gained = f"{prefix}:gained"
    if zero_point is not None and not stream.is_signed:
        offset = constant("offset", zero_point.astype(np.int32))
    else:
        offset = shared("offset", np.array(stream.offset, dtype=np.int32))
    yield step("Sub", [gained, offset], "centred")
    yield step("Cast", [f"{prefix}:centred"], "integers", to=TensorProto.INT8)
