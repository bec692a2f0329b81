"""From the trained graph with quantizers to a graph of integers, as it will be served."""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node

from mcomp.model.graph import attribute
from mcomp_stages.methods.quantization.canonical import lower_pooling, remove_dropout, replace
from mcomp_stages.methods.quantization.fake_quantize import ActivationQuantizer
from mcomp_stages.methods.quantization.kinds import CONVOLUTIONS, PADS, RESIZES, bounds, is_zero_pad, passes
from mcomp_stages.methods.quantization.layers import buffer, called, fold_layer, is_quantized_layer
from mcomp_stages.methods.quantization.rows import Rows
from mcomp_stages.methods.quantization.tables import fold_table, is_quantized_table
from mcomp_stages.methods.quantization.training_graph import QuantizedGraph

mcomp = torch.ops.mcomp


def convert(trained: QuantizedGraph) -> GraphModule:
    """Return a graph in which every quantizer is a pair of mcomp::quantize_linear and dequantize_linear.

    Weights are integers, batch norm is folded (`layers`), max-pooling and shapes run on integers of 8 bits.
    `trained` is used up; what is not quantized is shared with the model it was made from.
    """
    graph_module = GraphModule(trained, trained.graph)
    graph = graph_module.graph
    remove_dropout(graph)
    layers = [node for node in graph.nodes if is_quantized_layer(graph_module, node)]
    rows = Rows(graph)
    for node in layers:
        fold_layer(graph_module, node)
    for node in layers:
        if node.target is torch.ops.aten.linear.default:
            rows.flatten(node)
    for node in list(graph.nodes):
        if is_quantized_table(graph_module, node):
            fold_table(graph_module, node)
    for node in list(graph.nodes):
        if isinstance(called(graph_module, node), ActivationQuantizer):
            lower_quantizer(graph_module, node)
    for node in list(graph.nodes):
        carry_integers(graph_module, node)
    lower_pooling(graph)
    graph.eliminate_dead_code()
    graph.lint()
    return GraphModule(graph_module, graph).eval()  # anew: it holds only what the graph still reads


def lower_quantizer(graph_module: GraphModule, node: Node) -> None:
    """Replace an activation quantizer by the pair of operators; the integers keep the site in their meta.

    A grid narrower than its type ends earlier: the integers are clamped.
    """
    quantizer = called(graph_module, node)
    assert isinstance(quantizer, ActivationQuantizer)
    path, narrow = str(node.target), is_narrow(quantizer)
    if narrow:
        drop_clipping(node, quantizer)
    delattr(graph_module.get_submodule("quantizers"), path.partition(".")[2])
    graph = graph_module.graph
    with graph.inserting_before(node):
        scale, zero_point = quantizer.grid()
        grid = [
            buffer(graph_module, f"{path}.scale", scale),
            buffer(graph_module, f"{path}.zero_point", zero_point),
        ]
        integers = graph.call_function(mcomp.quantize_linear.default, (node.args[0], *grid, 0))
        if narrow:
            ends = quantizer.limits.lowest, quantizer.limits.highest
            integers = graph.call_function(torch.ops.aten.clamp.default, (integers, *ends))
        numbers = graph.call_function(mcomp.dequantize_linear.default, (integers, *grid, 0))
    integers.meta, numbers.meta = dict(node.meta), {**node.meta, "site": None}
    replace(node, numbers)


def is_narrow(quantizer: ActivationQuantizer) -> bool:
    """Whether a grid ends before the type of its integers does."""
    lowest, highest, dtype = quantizer.limits
    return (lowest, highest) != (torch.iinfo(dtype).min, torch.iinfo(dtype).max)


def drop_clipping(node: Node, quantizer: ActivationQuantizer) -> None:
    """Skip an activation in front of a narrow grid that ends where the activation clips, or before.

    The runtime does so for whole types, and fuses a layer only with what directly follows it.
    """
    activation = node.args[0]
    assert isinstance(activation, Node)
    clipped = bounds(activation)
    if clipped is None:
        return
    scale, zero_point = (part.item() for part in quantizer.grid())
    lowest, highest, _ = quantizer.limits
    if round(clipped[0] / scale) + zero_point <= lowest and clipped[1] / scale + zero_point >= highest - 0.5:
        node.update_arg(0, activation.args[0])


def carry_integers(graph_module: GraphModule, node: Node) -> None:
    """Let a shape operation or max-pooling run on the integers, and dequantize behind it.

    Padding in front of nothing but convolutions stays in floats: the runtime takes it into the convolution.
    """
    source = node.args[0] if node.args else None
    if not (isinstance(source, Node) and source.target is mcomp.dequantize_linear.default and passes(node)):
        return
    limits = torch.iinfo(attribute(graph_module, str(source.args[2].target)).dtype)  # type: ignore[union-attr]
    if limits.bits > 8 or (node.target in RESIZES and limits.min < 0):
        return  # torch cannot pool or resize them, and no runtime is faster for it
    if is_zero_pad(node) and all(user.target in CONVOLUTIONS for user in node.users):
        return
    integers, scale, zero_point, axis = source.args
    with node.graph.inserting_after(node):
        numbers = node.graph.call_function(source.target, (node, scale, zero_point, axis))
    numbers.meta = dict(source.meta)
    node.replace_all_uses_with(numbers, delete_user_cb=lambda user: user is not numbers)
    node.update_arg(0, integers)
    if is_zero_pad(node):
        fill = int(attribute(graph_module, str(zero_point.target)))  # type: ignore[union-attr]
        node.args = (*node.args[:2], *(("constant",) if node.target is PADS[0] else ()), fill)
