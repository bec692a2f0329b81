# K = channels of an input
"""Move outliers of inputs into the weights that read them, where what comes before can undo it for nothing.

A linear's input is divided by a factor for each channel, and the linear's columns are multiplied by it. The
division costs nothing where the input is a norm's output, read by linears alone (the norm's gain and shift
are divided), or another linear's through a ReLU. Elsewhere it would take a product at run time, and is left.

Source: Xiao et al. 2022, arXiv:2211.10438, equation 4. Differs: the strength may be found for each input
(`weights.smoothing`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.fx import GraphModule, Interpreter, Node

from mcomp.errors import StageError
from mcomp.model.graph import module_path
from mcomp.model.model import Model
from mcomp.signals import raise_if_interrupted
from mcomp.stage import Unit, at_once
from mcomp_stages.methods.layer_inputs import blamed_on
from mcomp_stages.methods.quantization.canonical import DROPOUTS
from mcomp_stages.methods.quantization.equalize import find_pairs, require_same_outputs
from mcomp_stages.methods.quantization.lockstep import Inputs
from mcomp_stages.methods.quantization.training_graph import canonical_graph
from mcomp_stages.methods.quantization.weights.smoothing import (
    InputStatistics,
    scale_for,
    scale_once,
    seen_once,
)

aten = torch.ops.aten

# Position of the gain, and of the shift if there is one.
NORMS: Mapping[Any, tuple[int, ...]] = {aten.layer_norm.default: (2, 3), aten.rms_norm.default: (2,)}


@dataclass(frozen=True)
class Smoothable:
    """An input whose channels can be scaled: the node that gives it, and the linears that read it.

    `scaled` are the names of the parameters that are divided (axis 0), `weights` those of the linears.
    """

    name: str
    node: Node
    scaled: tuple[str, ...]
    weights: tuple[str, ...]


def smoothed(
    model: Model,
    example: Inputs,
    batches: Iterable[Inputs],
    strength: float | None,
    bits: int,
    unit: Unit = at_once,
) -> tuple[Model, dict[str, float]]:
    """Return a copy that computes the same with smoother inputs, and the strength for each, by what gives it.

    `strength` None finds it for each input, for weights of so many bits; where nothing is gained the input
    stays as it is. `unit` keeps what is found (`mcomp.stage.Context.unit`). Raises StageError if there is no
    such input, or if the copy does not compute the same.
    """
    changed = model.copy()
    graph = canonical_graph(changed.module, example)
    inputs = [*behind_norms(graph), *behind_linears(graph, changed)]
    if not inputs:
        raise StageError(
            "smoothquant: no linear reads a norm's output that it alone reads, or another linear's through a "
            "ReLU; leave smoothquant out"
        )
    seen = seen_once(unit, lambda: statistics(graph, inputs, batches))
    strengths: dict[str, float] = {}
    with torch.no_grad():
        for number, each in enumerate(inputs):
            weights = [changed.module.get_parameter(name) for name in each.weights]
            find = partial(scale_for, weights, seen[number], strength, bits)
            exact_K, strengths[each.name] = scale_once(unit, number, find)
            scale_K = exact_K.to(weights[0].dtype)
            for name in each.scaled:
                parameter = changed.module.get_parameter(name)
                parameter.div_(scale_K.reshape(-1, *[1] * (parameter.ndim - 1)))
            for weight_OK in weights:
                weight_OK.mul_(scale_K)
        require_same_outputs(model, changed, example)
    return changed, strengths


def behind_norms(graph: GraphModule) -> list[Smoothable]:
    """Return the outputs of norms that nothing but linears read."""
    found = []
    for node in graph.graph.nodes:
        places = NORMS.get(node.target, ())
        parameters = [node.args[place] for place in places if len(node.args) > place and node.args[place]]
        readers = list(node.users)
        if (
            parameters
            and len(node.args[1]) == 1  # over the channels alone
            and node.args[2] is parameters[0]
            and readers
            and all(reads_alone(user, node) for user in readers)
            and all(each.op == "get_attr" and len(each.users) == 1 for each in parameters)
        ):
            weights = tuple(dict.fromkeys(str(user.args[1].target) for user in readers))
            names = tuple(str(each.target) for each in parameters)
            found.append(Smoothable(module_path(node), node, names, weights))
    return found


def reads_alone(user: Node, value: Node) -> bool:
    """Whether a node is a linear of this value with a weight of its own."""
    if user.target is not aten.linear.default or user.args[0] is not value:
        return False
    weight = user.args[1]
    return isinstance(weight, Node) and weight.op == "get_attr" and len(weight.users) == 1


def behind_linears(graph: GraphModule, model: Model) -> list[Smoothable]:
    """Return the inputs of linears that another linear gives, through what passes a factor on."""
    layers = {str(node.args[1].target): node for node in graph.graph.nodes if is_linear(node)}
    return [
        Smoothable(pair.first, origin_of(layers[pair.shared]), pair.scaled, (pair.shared,))
        for pair in find_pairs(graph.graph, model.module)
        if pair.norm is None and pair.first_weight in layers and pair.shared in layers
    ]


def is_linear(node: Node) -> bool:
    """Whether a call is a linear with a parameter as its weight."""
    return node.target is aten.linear.default and node.args[1].op == "get_attr"  # type: ignore[union-attr]


def origin_of(layer: Node) -> Node:
    """Return the value that a linear reads, dropouts left out."""
    value = layer.args[0]
    while isinstance(value, Node) and value.target in DROPOUTS:
        value = value.args[0]
    assert isinstance(value, Node)
    return value


class Watch(Interpreter):
    """Run a graph and show chosen values to their statistics."""

    def __init__(
        self, graph: GraphModule, seen: Mapping[Node, InputStatistics], names: Mapping[Node, str]
    ) -> None:
        super().__init__(graph)
        self.seen, self.names = seen, names

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        if n in self.seen:
            with blamed_on(self.names[n]):
                self.seen[n].see(value)
        return value


def statistics(
    graph: GraphModule, inputs: Sequence[Smoothable], batches: Iterable[Inputs]
) -> list[InputStatistics]:
    """Return what the calibration samples show of each input. Raises StageError if it is not finite."""
    seen = {each.node: InputStatistics() for each in inputs}
    names = {each.node: each.name for each in inputs}
    places = [str(node.target) for node in graph.graph.find_nodes(op="placeholder")]
    with torch.no_grad():
        for batch in batches:
            raise_if_interrupted()
            Watch(graph, seen, names).run(*(batch[place] for place in places))
    return [seen[each.node] for each in inputs]
