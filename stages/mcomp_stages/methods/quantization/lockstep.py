"""A graph with quantizers beside the same graph in float, node by node over all samples.

What a method does at one layer needs the layer's inputs as all layers before it, already treated, give them,
and what the float model gives on the same samples. One walk gives both, and drops each value behind its last
use: memory is that of the widest part of the network times the number of samples, time that of two passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from mcomp.signals import raise_if_interrupted
from mcomp_stages.methods.quantization.canonical import pure
from mcomp_stages.methods.quantization.training_graph import QuantizedGraph

Inputs = Mapping[str, Tensor]


class Side(Interpreter):
    """One batch on one side; in float, the quantizers let everything pass."""

    def __init__(self, graph: GraphModule, inputs: Inputs, in_float: bool) -> None:
        super().__init__(graph, garbage_collect_values=False)
        self.inputs, self.in_float = inputs, in_float

    def run_node(self, n: Node) -> Any:
        if n.op == "placeholder":
            return self.inputs[str(n.target)]
        if self.in_float and "site" in n.meta and n.op == "call_module":
            source = n.args[0]
            assert isinstance(source, Node)
            return self.env[source]
        return super().run_node(n)

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        return super().call_function(pure(target), args, kwargs)

    def compute(self, node: Node) -> None:
        """Compute the value of a node, or compute it again."""
        self.env[node] = self.run_node(node)


class Lockstep:
    """A walk over `graph` and, in float, over `reference`: the same model before anything was done to it."""

    def __init__(self, reference: QuantizedGraph, graph: QuantizedGraph, batches: Iterable[Inputs]) -> None:
        self.graph = graph
        twins = dict(zip(graph.graph.nodes, reference.graph.nodes, strict=True))
        self.twins: dict[Node, Node] = twins
        self.pairs = [(Side(reference, batch, True), Side(graph, batch, False)) for batch in batches]

    def walk(self, visit: Callable[[Node], None], kept: Iterable[tuple[Node, Node]] = ()) -> None:
        """Compute all values, and call `visit` behind each node, before anything that depends on it.

        A value is dropped behind its last use, or later: for each pair in `kept`, behind the second node.
        """
        order = {node: place for place, node in enumerate(self.graph.graph.nodes)}
        last = {node: max((order[user] for user in node.users), default=order[node]) for node in order}
        for node, until in kept:
            last[node] = max(last[node], order[until])
        dropped: dict[int, list[Node]] = {}
        for node, place in last.items():
            if node.op == "get_attr":
                continue  # what the module holds takes no memory here
            dropped.setdefault(place, []).append(node)
        with torch.no_grad():
            for node, place in order.items():
                raise_if_interrupted()
                self.compute(node)
                visit(node)
                self.drop(dropped.get(place, ()))

    def compute(self, node: Node) -> None:
        """Compute a node on both sides."""
        for reference, side in self.pairs:
            reference.compute(self.twins[node])
            side.compute(node)

    def recompute(self, nodes: Iterable[Node]) -> None:
        """Compute nodes of the quantized side again, in their order, after what they read was changed.

        Those whose values nothing reads any more are forgotten again.
        """
        nodes = list(nodes)
        for _, side in self.pairs:
            gone = [node for node in nodes if node not in side.env]
            for node in nodes:
                side.compute(node)
            for node in gone:
                del side.env[node]

    def drop(self, nodes: Iterable[Node]) -> None:
        """Forget values that nothing reads any more."""
        for node in nodes:
            for reference, side in self.pairs:
                del side.env[node], reference.env[self.twins[node]]

    def in_float(self, node: Node) -> list[Tensor]:
        """Return the values of a node in float, batch by batch."""
        return [reference.env[self.twins[node]] for reference, _ in self.pairs]

    def quantized(self, node: Node) -> list[Tensor]:
        """Return the values of a node with quantizers, batch by batch."""
        return [side.env[node] for _, side in self.pairs]


def segment_side(graph: GraphModule) -> Side:
    """Return what runs segments of a graph; making one takes longer than running a small layer."""
    return Side(graph, {}, in_float=False)


def run_segment(side: Side, nodes: Sequence[Node], values: Mapping[Node, Any]) -> Any:
    """Return the value of the last of some nodes, from the values of those outside that they read.

    Gradients flow to `values`; a node of the segment that `values` has is not computed.
    """
    side.env = dict(values)
    for node in nodes:
        if node not in values:
            side.compute(node)
    return side.env[nodes[-1]]
