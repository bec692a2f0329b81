"""Integers of 4 bits in an ONNX file, two in a byte.

PyTorch has no such type: the graph holds them as int8 or uint8, in buffers whose names end with their type.
Where they are multiplied with 8-bit integers the name ends with `_widened` as well: the file then says how
they become int8 around zero, which is what the integer kernels take. Runtimes compute that once, on loading.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TYPES = {"int4": TensorProto.INT4, "uint4": TensorProto.UINT4}
WIDENED = "_widened"


def pack_integers(graph: onnx.GraphProto) -> None:
    """Store the initializers that are named for a packed type in it, in place."""
    initializers = {initializer.name: initializer for initializer in graph.initializer}
    for node in list(graph.node):
        stored = initializers.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if stored is None or packed_type(stored.name) is None:
            continue
        zero_point = numpy_helper.to_array(initializers[node.input[2]])
        if stored.name.endswith(WIDENED):
            widen(graph, node, zero_point)
        else:
            pack_zero_point(graph, node, zero_point)
    for name, initializer in initializers.items():
        kind = packed_type(name)
        if kind is not None:
            initializer.CopyFrom(packed(numpy_helper.to_array(initializer), kind, name))
    drop_unread(graph)


def packed_type(name: str) -> int | None:
    """Return the ONNX type that a name ends with, None if it is no packed one."""
    return TYPES.get(name.removesuffix(WIDENED).rpartition("_")[2])


def packed(values: np.ndarray, kind: int, name: str) -> TensorProto:
    """Return integers in a packed type; of two in a byte the first is in the low bits."""
    nibbles = values.reshape(-1).astype(np.uint8) & 0xF
    nibbles = np.append(nibbles, np.zeros(nibbles.size % 2, dtype=np.uint8))
    data = (nibbles[0::2] | (nibbles[1::2] << 4)).tobytes()
    return TensorProto(name=name, data_type=kind, dims=values.shape, raw_data=data)


def pack_zero_point(graph: onnx.GraphProto, node: onnx.NodeProto, zero_point: np.ndarray) -> None:
    """Give a packed weight a zero point of its type, or none if all are zero."""
    name, kind = f"{node.input[0]}_zero_point", packed_type(node.input[0])
    assert kind is not None
    if zero_point.any():
        graph.initializer.append(packed(zero_point, kind, name))
    node.input[2] = name if zero_point.any() else ""
    if not zero_point.any():
        del node.input[2]


def widen(graph: onnx.GraphProto, node: onnx.NodeProto, zero_point: np.ndarray) -> None:
    """Let a packed weight become int8 around zero in front of its DequantizeLinear.

    That keeps a zero point of zeros: without one the runtime does not see an integer linear.
    """
    name = node.input[0]
    made = {output for other in graph.node for output in other.output}
    # Equal weights of two layers are one initializer by now.
    prefix = name if f"{name}:int8" not in made else f"{name}:{node.output[0]}"
    steps, zeros = f"{prefix}:int8", f"{prefix}:zeros"
    axis = next(attribute.i for attribute in node.attribute if attribute.name == "axis")
    position = list(graph.node).index(node)
    for offset, step in enumerate(widening(graph, name, prefix, along(zero_point, axis, graph, name))):
        graph.node.insert(position + offset, step)
    graph.initializer.append(numpy_helper.from_array(np.zeros(zero_point.shape, dtype=np.int8), zeros))
    node.input[0], node.input[2] = steps, zeros


def along(zero_point: np.ndarray, axis: int, graph: onnx.GraphProto, weight: str) -> np.ndarray:
    """Return a zero point shaped to broadcast over an initializer."""
    if zero_point.ndim == 0:
        return zero_point
    dims = next(initializer.dims for initializer in graph.initializer if initializer.name == weight)
    return zero_point.reshape([-1 if position == axis else 1 for position in range(len(dims))])


def widening(
    graph: onnx.GraphProto, name: str, prefix: str, zero_point: np.ndarray
) -> Iterator[onnx.NodeProto]:
    """Yield the operators that turn a packed weight into `<prefix>:int8`; runtimes subtract in int32 only."""
    steps = f"{prefix}:int8"
    if not zero_point.any():
        yield helper.make_node("Cast", [name], [steps], name=steps, to=TensorProto.INT8)
        return
    wide, centred, offset = (f"{prefix}:{part}" for part in ("int32", "centred", "zero_point"))
    graph.initializer.append(numpy_helper.from_array(zero_point.astype(np.int32), offset))
    yield helper.make_node("Cast", [name], [wide], name=wide, to=TensorProto.INT32)
    yield helper.make_node("Sub", [wide, offset], [centred], name=centred)
    yield helper.make_node("Cast", [centred], [steps], name=steps, to=TensorProto.INT8)


def drop_unread(graph: onnx.GraphProto) -> None:
    """Drop the initializers that nothing reads, in place."""
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    kept = [initializer for initializer in graph.initializer if initializer.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
