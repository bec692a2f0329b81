"""Which layers ONNX Runtime really runs in integers, counted in the graph it makes of a file. Free of torch.

Accuracy does not show whether a layer fell back to float; its operator in the optimised graph does.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import onnx.numpy_helper

from mcomp.measure.operators import FLOAT_LAYERS, INT8_LAYERS, PACKED, ZERO_POINTS
from mcomp.measure.runtimes.onnx import load_session, session_options
from mcomp.store.ledger import Census

ROUND = 8  # floats in a register of AVX2; wider ones hold a multiple of it
LAYERS = {**FLOAT_LAYERS, **INT8_LAYERS}
SPARSE = 0.5  # of zeros: low bits alone give a weight fewer
WIDE = 8  # input channels from which an integer convolution was no slower than the float one


def census(path: Path, scratch: Path, threads: int = 1) -> Census:
    """Count the operators of the graph that ONNX Runtime makes of `path` on this machine.

    It is written into a folder in `scratch` for that, and removed again. Raises StageError if the runtime
    refuses the file.
    """
    graph = optimised_graph(path, scratch, threads)
    nodes = list(all_nodes(graph))
    constant = constant_names(graph, nodes)
    float_layers = [node for node in nodes if is_layer(node, FLOAT_LAYERS, constant)]
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    return Census(
        int8=sum(is_layer(node, INT8_LAYERS, constant) for node in nodes),
        float=len(float_layers),
        by_type=dict(sorted(Counter(node.op_type for node in nodes).items())),
        float_layers=tuple(layer_name(node) for node in float_layers),
        narrow_layers=tuple(layer_name(node) for node in nodes if is_narrow(node, shapes)),
        unrounded_layers=tuple(unrounded_layers(onnx.load(path, load_external_data=False).graph)),
        sparse_layers=tuple(layer_name(node) for node in nodes if is_sparse(node, tensors)),
    )


def optimised_graph(path: Path, scratch: Path, threads: int) -> onnx.GraphProto:
    """Return the graph that the runtime builds for this machine, written by the runtime itself."""
    with TemporaryDirectory(dir=scratch) as folder:
        written = Path(folder) / "optimised.onnx"
        options = session_options(path, threads)
        options.optimized_model_filepath = str(written)
        load_session(path, options)
        return onnx.load(written, load_external_data=False).graph


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a graph and of the graphs inside its nodes (If, Loop)."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from all_nodes(inner)


def constant_names(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """Return the values that do not depend on the inputs: initializers and what is computed from them alone.

    A weight whose DequantizeLinear was not fused is such a value.
    """
    constant = {tensor.name for tensor in graph.initializer}
    for node in nodes:
        if all(name in constant for name in node.input if name):
            constant.update(node.output)
    return constant


def is_layer(node: onnx.NodeProto, kinds: dict[str, tuple[int, ...]], constant: set[str]) -> bool:
    """Return whether a node is one of these kinds and one of its operands is a weight."""
    operands = kinds.get(node.op_type, ())
    return any(node.input[position] in constant for position in operands)


def is_narrow(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> bool:
    """Return whether a node is an integer convolution that sums over few channels at each position.

    ONNX Runtime gathers them channel by channel, which takes longer than the float convolution; depthwise
    convolutions have a kernel of their own.
    """
    if node.op_type != "QLinearConv":
        return False
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    weight_OIHW = shapes.get(node.input[3], ())
    return groups == 1 and len(weight_OIHW) > 1 and weight_OIHW[1] < WIDE


def unrounded_layers(graph: onnx.GraphProto) -> Iterator[str]:
    """Yield the names of convolutions whose channels leave registers partly empty.

    In the graph as it was exported: the runtime's own fills them up, which is what takes the time.
    """
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in shapes:
            shapes[node.output[0]] = shapes[node.input[0]]
        if node.op_type == "Conv" and shapes.get(node.input[1], (0,))[0] % ROUND:
            yield layer_name(node)


def is_sparse(node: onnx.NodeProto, tensors: dict[str, onnx.TensorProto]) -> bool:
    """Return whether more than half of a layer's weights are zero; those in another file are not read."""
    places = [place for place in LAYERS.get(node.op_type, ()) if is_matrix(tensors.get(node.input[place]))]
    if not places or node.op_type in PACKED:
        return False
    tensor = tensors[node.input[places[0]]]
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return False
    zeros = onnx.numpy_helper.to_array(tensor) == zero_point(node, places[0], tensors)
    return float(zeros.mean()) > SPARSE


def is_matrix(tensor: onnx.TensorProto | None) -> bool:
    """Return whether a tensor has the axes of a weight."""
    return tensor is not None and len(tensor.dims) > 1


def zero_point(node: onnx.NodeProto, place: int, tensors: dict[str, onnx.TensorProto]) -> float:
    """Return what stands for zero in a node's weight: 128 where the runtime made its int8 unsigned.

    NaN, which equals nothing, where channels have different ones.
    """
    at = ZERO_POINTS.get((node.op_type, place))
    tensor = tensors.get(node.input[at]) if at is not None and at < len(node.input) else None
    found = {0.0} if tensor is None else set(onnx.numpy_helper.to_array(tensor).ravel().tolist())
    return float(found.pop()) if len(found) == 1 else math.nan


def layer_name(node: onnx.NodeProto) -> str:
    """Return the module's path where a parameter's name still tells it, else the node's name."""
    for name in node.input:
        owner, _, parameter = str(name).rpartition(".")
        if owner and parameter in ("weight", "bias"):
            return owner
    # What ORT adds to the name of a convolution that it brings into another layout.
    return re.sub(r"_(nchwc|token_\d+)$", "", str(node.name or node.output[0]))
