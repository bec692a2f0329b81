"""Parts of a graph with quantizers that are treated as one: a layer with what is fused to it, or a block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch.fx import Node

from mcomp.model.graph import module_path
from mcomp_stages.methods.quantization.fake_quantize import WeightQuantizer
from mcomp_stages.methods.quantization.kinds import ACTIVATIONS
from mcomp_stages.methods.quantization.placement import follower, norm_of
from mcomp_stages.methods.quantization.training_graph import QuantizedGraph


@dataclass(frozen=True)
class Segment:
    """Nodes in their order, the last of which is the only one that is read outside.

    `layers` are the calls of quantized layers among them; `inputs` the values from outside that they read.
    """

    name: str
    nodes: tuple[Node, ...]
    layers: tuple[Node, ...]

    @property
    def output(self) -> Node:
        """The value that the segment is for."""
        return self.nodes[-1]

    @property
    def inputs(self) -> tuple[Node, ...]:
        """The values from outside that it reads."""
        inside = set(self.nodes)
        read = dict.fromkeys(value for node in self.nodes for value in node.all_input_nodes)
        return tuple(value for value in read if value not in inside)


def quantized_layers(graph: QuantizedGraph) -> list[Node]:
    """Return the calls that read a quantized weight, in order."""
    return [node for node in graph.graph.nodes if weight_call(graph, node) is not None]


def weight_call(graph: QuantizedGraph, node: Node) -> Node | None:
    """Return the call of the weight quantizer that a layer reads, or None."""
    weight = node.args[1] if len(node.args) > 1 else None
    if not isinstance(weight, Node) or weight.op != "call_module":
        return None
    is_weight = isinstance(graph.get_submodule(str(weight.target)), WeightQuantizer)
    return weight if is_weight else None


def weight_name(graph: QuantizedGraph, layer: Node) -> str:
    """Return the name of the weight of a quantized layer."""
    call = weight_call(graph, layer)
    assert call is not None
    return str(call.meta["site"])


def layer_segments(graph: QuantizedGraph) -> list[Segment]:
    """Return a segment for each quantized layer: the layer, its norm and its activation."""
    return [layer_segment(layer) for layer in quantized_layers(graph)]


def layer_segment(layer: Node) -> Segment:
    """Return a layer with the norm and the activation that follow it alone."""
    nodes = [layer]
    for find in (norm_of, activation_of):
        after = find(nodes[-1])
        nodes += [after] if after else []
    return Segment(module_path(layer), tuple(nodes), (layer,))


def activation_of(node: Node) -> Node | None:
    """Return the activation that follows a value alone."""
    return follower(node, ACTIVATIONS)


def block_segments(graph: QuantizedGraph) -> list[Segment]:
    """Return a segment for each block, and for each layer that is in none, in order.

    A block is the innermost module that holds a layer and others beside it, if it gives one value, and reads
    nothing that is computed after it began. Of blocks that hold each other's layers the smallest is taken.
    """
    layers = quantized_layers(graph)
    blocks = {block.name: block for layer in layers if (block := block_of(graph, layer, layers))}
    chosen: dict[Node, Segment] = {}
    for block in sorted(blocks.values(), key=lambda block: len(block.nodes)):
        if not any(layer in chosen for layer in block.layers):
            chosen.update(dict.fromkeys(block.layers, block))
    segments = [chosen.get(layer) or layer_segment(layer) for layer in layers]
    return list({segment.output: segment for segment in segments}.values())


def block_of(graph: QuantizedGraph, layer: Node, layers: Sequence[Node]) -> Segment | None:
    """Return the innermost block around a layer, or None."""
    owner = module_path(layer)
    while owner := owner.rpartition(".")[0]:
        block = block_segment(graph, owner, layers)
        if block is not None:
            return block
    return None


def block_segment(graph: QuantizedGraph, path: str, layers: Sequence[Node]) -> Segment | None:
    """Return the segment of a module, or None if it is no block."""
    order = {node: place for place, node in enumerate(graph.graph.nodes)}
    nodes = [node for node in order if is_inside(node, path) and node.op != "get_attr"]
    inside = set(nodes)
    within = tuple(layer for layer in layers if layer in inside)
    outputs = [node for node in nodes if any(user not in inside for user in node.users)]
    if len(within) < 2 or outputs != nodes[-1:]:
        return None
    segment = Segment(path, tuple(nodes), within)
    late = any(order[value] > order[nodes[0]] for value in segment.inputs if value.op != "get_attr")
    return None if late else segment


def is_inside(node: Node, path: str) -> bool:
    """Whether a call was made in a module, or in one that it holds."""
    here = module_path(node)
    return here == path or here.startswith(f"{path}.")
