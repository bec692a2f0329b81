"""From the trained graph with quantizers to a graph of integers, as it will be served."""

from __future__ import annotations

from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from mcomp.model.graph import attribute
from mcomp_stages.methods.quantization.canonical import lower_pooling, remove_dropout, replace
from mcomp_stages.methods.quantization.fake_quantize import (
    ActivationQuantizer,
    WeightQuantizer,
    weight_integers,
)
from mcomp_stages.methods.quantization.fold import Affine, integer_layer, norm_affine
from mcomp_stages.methods.quantization.placement import CONVOLUTIONS, NORMS, PADS, follower, origin, passes
from mcomp_stages.methods.quantization.training_graph import QuantizedGraph

mcomp = torch.ops.mcomp


def convert(trained: QuantizedGraph) -> GraphModule:
    """Return a graph in which every quantizer is a pair of mcomp::quantize_linear and dequantize_linear.

    Weights are int8 and biases int32 buffers, batch norm is folded, max-pooling and shapes run on integers.
    `trained` is used up; what is not quantized is shared with the model it was made from.
    """
    graph_module = GraphModule(trained, trained.graph)
    graph = graph_module.graph
    remove_dropout(graph)
    for node in list(graph.nodes):
        if is_quantized_layer(graph_module, node):
            fold_layer(graph_module, node)
    for node in list(graph.nodes):
        if isinstance(called(graph_module, node), ActivationQuantizer):
            lower_quantizer(graph_module, node)
    for node in list(graph.nodes):
        carry_integers(graph_module, node)
    lower_pooling(graph)
    graph.eliminate_dead_code()
    graph.lint()
    return GraphModule(graph_module, graph).eval()  # anew: it holds only what the graph still reads


def called(graph_module: GraphModule, node: Any) -> nn.Module | None:
    """Return the module that a node calls, or None."""
    is_call = isinstance(node, Node) and node.op == "call_module"
    return graph_module.get_submodule(str(node.target)) if is_call else None


def is_quantized_layer(graph_module: GraphModule, node: Node) -> bool:
    """Whether a call reads a quantized weight."""
    return len(node.args) > 1 and isinstance(called(graph_module, node.args[1]), WeightQuantizer)


def fold_layer(graph_module: GraphModule, node: Node) -> None:
    """Replace a layer's weight, bias and batch norm by integers with their scales."""
    quantized = node.args[1]
    assert isinstance(quantized, Node)
    weight_node = quantized.args[0]
    assert isinstance(weight_node, Node)
    quantizer = called(graph_module, quantized)
    assert isinstance(quantizer, WeightQuantizer)
    weight, scale = weight_integers(attribute(graph_module, str(weight_node.target)), quantizer.bits)
    norm = follower(node, NORMS)
    bias = tensor(graph_module, node.args[2]) if len(node.args) > 2 else None
    affine = None if norm is None else affine_of(graph_module, norm)
    layer = integer_layer(weight, scale, bias, affine, input_scale(graph_module, node))
    prefix = free_prefix(graph_module, str(weight_node.target))
    with graph_module.graph.inserting_before(node):
        weights = dequantized(graph_module, f"{prefix}weight", layer.weight, layer.weight_scale)
        biases = dequantized(graph_module, f"{prefix}bias", layer.bias, layer.bias_scale)
    biases.meta["exact"] = layer.exact_bias
    node.args = (node.args[0], weights, biases, *node.args[3:])
    if norm is not None:
        replace(norm, node)


def input_scale(graph_module: GraphModule, node: Node) -> Tensor:
    """Return the scale of what a layer reads: placement gives every quantized layer a quantized input."""
    quantizer = called(graph_module, origin(node.args[0]))
    assert isinstance(quantizer, ActivationQuantizer)
    return quantizer.grid()[0]


def affine_of(graph_module: GraphModule, norm: Node) -> Affine:
    """Return what a call of batch norm does in inference."""
    gamma, beta, mean, variance = (tensor(graph_module, node) for node in norm.args[1:5])
    epsilon = norm.args[7]
    assert mean is not None
    assert variance is not None
    assert isinstance(epsilon, float)
    return norm_affine(gamma, beta, mean, variance, epsilon)


def tensor(graph_module: GraphModule, node: Any) -> Tensor | None:
    """Return the parameter or buffer that a node reads; None stays None."""
    if node is None:
        return None
    value: Tensor = attribute(graph_module, node.target)
    return value


def free_prefix(graph_module: GraphModule, weight: str) -> str:
    """Return what the names of a layer's integers start with: the path of its weight's module and a dot.

    A weight that serves several layers has integers for each; the later ones are numbered.
    """
    owner, dot, _ = weight.rpartition(".")
    taken = {name for name, _ in graph_module.named_buffers()}
    prefixes = (f"{owner}:{number}." if number else f"{owner}{dot}" for number in count())
    return next(prefix for prefix in prefixes if f"{prefix}weight_integers" not in taken)


def buffer(graph_module: GraphModule, path: str, value: Tensor) -> Node:
    """Register a buffer at a dotted path and return a node that reads it."""
    part: nn.Module = graph_module
    *owners, name = path.split(".")
    for owner in owners:
        if not hasattr(part, owner):
            part.add_module(owner, nn.Module())
        part = getattr(part, owner)
    part.register_buffer(name, value)
    return graph_module.graph.get_attr(path)


def dequantized(graph_module: GraphModule, path: str, integers: Tensor, scale: Tensor) -> Node:
    """Store integers (axis 0 has a scale each) and return the node of the numbers they stand for."""
    zero_point = torch.zeros_like(scale, dtype=integers.dtype)
    parts = {"integers": integers, "scale": scale, "zero_point": zero_point}
    nodes = [buffer(graph_module, f"{path}_{part}", value) for part, value in parts.items()]
    return graph_module.graph.call_function(mcomp.dequantize_linear.default, (*nodes, 0))


def lower_quantizer(graph_module: GraphModule, node: Node) -> None:
    """Replace an activation quantizer by the pair of operators; the first keeps the site in its meta."""
    quantizer = called(graph_module, node)
    assert isinstance(quantizer, ActivationQuantizer)
    path = str(node.target)
    delattr(graph_module.get_submodule("quantizers"), path.partition(".")[2])
    graph = graph_module.graph
    with graph.inserting_before(node):
        scale, zero_point = quantizer.grid()
        grid = [
            buffer(graph_module, f"{path}.scale", scale),
            buffer(graph_module, f"{path}.zero_point", zero_point),
        ]
        integers = graph.call_function(mcomp.quantize_linear.default, (node.args[0], *grid, 0))
        numbers = graph.call_function(mcomp.dequantize_linear.default, (integers, *grid, 0))
    integers.meta, numbers.meta = dict(node.meta), {**node.meta, "site": None}
    replace(node, numbers)


def carry_integers(graph_module: GraphModule, node: Node) -> None:
    """Let a shape operation or max-pooling run on the integers, and dequantize behind it.

    Padding in front of nothing but convolutions stays in floats: the runtime takes it into the convolution.
    """
    source = node.args[0] if node.args else None
    if not (isinstance(source, Node) and source.target is mcomp.dequantize_linear.default and passes(node)):
        return
    if node.target in PADS and all(user.target in CONVOLUTIONS for user in node.users):
        return
    integers, scale, zero_point, axis = source.args
    with node.graph.inserting_after(node):
        numbers = node.graph.call_function(source.target, (node, scale, zero_point, axis))
    numbers.meta = dict(source.meta)
    node.replace_all_uses_with(numbers, delete_user_cb=lambda user: user is not numbers)
    node.update_arg(0, integers)
    if node.target in PADS:
        fill = int(attribute(graph_module, str(zero_point.target)))  # type: ignore[union-attr]
        node.args = (*node.args[:2], *(("constant",) if node.target is PADS[0] else ()), fill)
