"""Quantizers as XNNPACK knows them: `quantized_decomposed` operators with signed bytes.

Unsigned bytes become signed ones with a zero point lower by 128: the numbers they stand for are the same.
Biases in int32 become floats, which XNNPACK turns into the same integers again.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.ao.quantization.fx._decomposed  # registers torch.ops.quantized_decomposed
from torch import Tensor
from torch.fx import GraphModule, Node

from mcomp.errors import StageError
from mcomp.model.graph import attribute, module_path
from mcomp_stages.methods.program.plain import copied

decomposed = torch.ops.quantized_decomposed
QUANTIZE, DEQUANTIZE = torch.ops.mcomp.quantize_linear.default, torch.ops.mcomp.dequantize_linear.default
# By the type of a zero point: what is taken from it, and how far its integers then reach.
SIGNED = {torch.uint8: (128, -128, 127), torch.int8: (0, -128, 127)}


def with_known_quantizers(graph_module: GraphModule) -> GraphModule:
    """Return a copy of a graph in integers with quantizers that XNNPACK knows.

    Raises StageError naming the first layer on a grid that it does not have.
    """
    known = copied(graph_module)
    for node in list(known.graph.nodes):
        if node.target in (QUANTIZE, DEQUANTIZE):
            with known.graph.inserting_before(node):
                node.replace_all_uses_with(REWRITE[kind_of(known, node)](known, node))
            known.graph.erase_node(node)
    known.graph.eliminate_dead_code()
    known.graph.lint()
    known.recompile()
    known.eval()
    return known


def constants(graph_module: GraphModule, node: Node) -> tuple[Tensor, Tensor]:
    """Return the scale and the zero point of a quantizer."""
    scale, zero_point = (attribute(graph_module, str(part.target)) for part in node.all_input_nodes[1:])
    return scale, zero_point


def kind_of(graph_module: GraphModule, node: Node) -> str:
    """Return what a quantizer stands at. Raises StageError for a grid that XNNPACK does not have."""
    scale, zero_point = constants(graph_module, node)
    if zero_point.dtype is torch.int32:
        return "bias"
    if zero_point.dtype not in SIGNED or scale.ndim > 1 or scale.dtype is not torch.float32:
        what = f"XNNPACK has no grid of {zero_point.dtype} with scales of shape {tuple(scale.shape)}"
        raise StageError(f"{what}; use 8 bits, for each channel", module=module_path(node))
    if scale.ndim:
        return "channels" if all(map(is_rounded, node.users)) else "floats"
    moved = node.target is DEQUANTIZE and node.all_input_nodes[0].op == "call_function"
    return "moved" if moved and node.all_input_nodes[0].target not in KNOWN else "tensor"


def is_rounded(layer: Node) -> bool:
    """Whether what a layer gives is rounded, at once or behind an activation: only then XNNPACK has it in
    integers.
    """
    readers = list(layer.users)
    if len(readers) == 1 and readers[0].name.startswith(ACTIVATIONS):
        return is_rounded(readers[0])
    return bool(readers) and all(reader.target is QUANTIZE for reader in readers)


def of_floats(graph_module: GraphModule, node: Node) -> Node:
    """Return the numbers of a weight, computed now."""
    weight = node.all_input_nodes[0]
    tensors = (attribute(graph_module, str(part.target)) for part in node.all_input_nodes)
    return constant(graph_module, f"{weight.target}_floats", DEQUANTIZE(*tensors, node.args[3]))


def of_tensor(graph_module: GraphModule, node: Node) -> Node:
    """Return the quantizer of an activation."""
    operator = decomposed.quantize_per_tensor if node.target is QUANTIZE else decomposed.dequantize_per_tensor
    return call(graph_module, node, operator.default, node.all_input_nodes[0])


def call(graph_module: GraphModule, node: Node, operator: Any, source: Node) -> Node:
    """Return a call of a quantizer of one scale, with the grid of `node`."""
    scale, zero_point = constants(graph_module, node)
    shift, lowest, highest = SIGNED[zero_point.dtype]
    grid = float(scale), int(zero_point) - shift, lowest, highest, torch.int8
    return graph_module.graph.call_function(operator, (source, *grid))


def behind_a_move(graph_module: GraphModule, node: Node) -> Node:
    """Return a value whose integers were reshaped: as floats, and rounded again, which changes nothing.

    XNNPACK knows an operator by the quantizers right before and behind it.
    """
    move = node.all_input_nodes[0]
    floats = call(graph_module, node, decomposed.dequantize_per_tensor.default, move.all_input_nodes[0])
    moved = graph_module.graph.node_copy(move, lambda source: floats)
    again = call(graph_module, node, decomposed.quantize_per_tensor.default, moved)
    return call(graph_module, node, decomposed.dequantize_per_tensor.default, again)


def of_channels(graph_module: GraphModule, node: Node) -> Node:
    """Return the numbers of a weight with a scale for each channel."""
    scale, zero_point = constants(graph_module, node)
    weight, axis = node.all_input_nodes[0], node.args[3]
    parts = [
        constant(graph_module, f"{weight.target}_{name}", value)
        for name, value in (("scales", scale), ("zero_points", zero_point.long()))
    ]
    _, lowest, highest = SIGNED[zero_point.dtype]
    arguments = (weight, *parts, axis, lowest, highest, torch.int8)
    return graph_module.graph.call_function(decomposed.dequantize_per_channel.default, arguments)


def of_bias(graph_module: GraphModule, node: Node) -> Node:
    """Return a bias in float."""
    source = node.all_input_nodes[0]
    scale, _ = constants(graph_module, node)
    bias = attribute(graph_module, str(source.target)).double() * scale.double()
    return constant(graph_module, f"{source.target}_floats", bias.float())


def constant(graph_module: GraphModule, name: str, value: Tensor) -> Node:
    """Return a node that reads a new constant."""
    plain = name.replace(".", "_").replace("/", "_")
    graph_module.register_buffer(plain, value)
    return graph_module.graph.get_attr(plain)


KNOWN = (QUANTIZE, decomposed.quantize_per_tensor.default)
ACTIVATIONS = ("relu", "hardtanh", "clamp")
REWRITE = {
    "floats": of_floats,
    "bias": of_bias,
    "channels": of_channels,
    "moved": behind_a_move,
    "tensor": of_tensor,
}
