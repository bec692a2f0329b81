"""Integers of 4 bits in an ONNX file, two in a byte; fewer bits are packed in `streams`.

PyTorch has no such type: the graph holds them as int8 or uint8, in buffers whose names end with their type.
Where they are multiplied with 8-bit integers the name ends with `_widened` as well: the file then says how
they become int8 around zero, which is what the integer kernels take. Runtimes compute that once, on loading.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mcomp_stages.methods.onnx.streams import WIDENED, stream_of, streamed, unpacking

TYPES = {"int4": TensorProto.INT4, "uint4": TensorProto.UINT4}


def pack_integers(graph: onnx.GraphProto) -> None:
    """Store the initializers that are named for a packed type in it, in place."""
    initializers = {initializer.name: initializer for initializer in graph.initializer}
    for node in list(graph.node):
        stored = initializers.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if stored is None or not (packed_type(stored.name) or stream_of(stored.name)):
            continue
        zero_point = numpy_helper.to_array(initializers[node.input[2]])
        if stream_of(stored.name):
            unpack(graph, node, zero_point)
        elif stored.name.endswith(WIDENED):
            widen(graph, node, zero_point)
        else:
            pack_zero_point(graph, node, zero_point)
    for name, initializer in initializers.items():
        kind, stream = packed_type(name), stream_of(name)
        if kind is not None:
            initializer.CopyFrom(packed(numpy_helper.to_array(initializer), kind, name))
        elif stream is not None:
            initializer.CopyFrom(streamed(numpy_helper.to_array(initializer), stream, name))
    drop_unread(graph)


def packed_type(name: str) -> int | None:
    """Return the ONNX type that a name ends with, None if it is no packed one."""
    return TYPES.get(name.removesuffix(WIDENED).rpartition("_")[2])


def unpack(graph: onnx.GraphProto, node: onnx.NodeProto, zero_point: np.ndarray) -> None:
    """Put the operators that unpack a weight in front of its DequantizeLinear."""
    name, stream = node.input[0], stream_of(node.input[0])
    assert stream is not None
    prefix = own_prefix(graph, node, "integers")
    dims = next(initializer.dims for initializer in graph.initializer if initializer.name == name)
    around_zero = name.endswith(WIDENED) and not stream.is_signed
    offset = along(zero_point, axis_of(node), graph, name) if around_zero else None
    position = list(graph.node).index(node)
    for place, step in enumerate(unpacking(graph, name, prefix, stream, dims, offset)):
        graph.node.insert(position + place, step)
    node.input[0] = f"{prefix}:integers"
    if around_zero:
        node.input[2] = f"{prefix}:zeros"
        graph.initializer.append(numpy_helper.from_array(np.zeros(zero_point.shape, np.int8), node.input[2]))


def own_prefix(graph: onnx.GraphProto, node: onnx.NodeProto, part: str) -> str:
    """Return what the values made of a weight are called: equal weights of two layers are one initializer."""
    made = {output for other in graph.node for output in other.output}
    name = str(node.input[0])
    return name if f"{name}:{part}" not in made else f"{name}:{node.output[0]}"


def axis_of(node: onnx.NodeProto) -> int:
    """Return the axis of a DequantizeLinear."""
    return next(int(attribute.i) for attribute in node.attribute if attribute.name == "axis")


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
    name, prefix = node.input[0], own_prefix(graph, node, "int8")
    steps, zeros = f"{prefix}:int8", f"{prefix}:zeros"
    position = list(graph.node).index(node)
    offsets = along(zero_point, axis_of(node), graph, name)
    for offset, step in enumerate(widening(graph, name, prefix, offsets)):
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
