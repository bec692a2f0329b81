"""Run a captured graph on labels: what tells which channels of which parameters belong together.

Every activation is a tensor of integer labels of the activation's own shape. A convolution or linear gives
fresh labels to its output channels and owns slots, the slices of its parameters that the labels stand for.
Shape operations are executed on the labels; operations that combine two elements unite their labels. Label
0 is frozen: data that is not a channel, and channels that must stay. After the run, a class of labels is a
group of slices that can only be cut together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from mcomp.model.graph import attribute, module_path
from mcomp_stages.methods.pruning.label_tensors import Labels, unlabelled
from mcomp_stages.methods.pruning.recorded import Stored
from mcomp_stages.methods.pruning.trace import Trace

Rule: TypeAlias = Callable[[Trace, "Call"], Any]


@dataclass(frozen=True)
class Call:
    """One call of the graph: its arguments by the names of the operator's schema."""

    trace: Trace
    node: Node
    arguments: Mapping[str, Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the (first) result."""
        value = self.node.meta["val"]
        return tuple(value.shape if isinstance(value, Tensor) else value[0].shape)

    def labels(self, name: str) -> Labels:
        """Return the labels of a tensor argument."""
        return self.trace.labels_of(self.arguments[name])

    def stored(self, name: str) -> Stored | None:
        """Return the argument if it is a parameter or buffer itself, and not something computed."""
        value = self.arguments.get(name)
        return value if isinstance(value, Stored) else None

    def tensors(self) -> list[Any]:
        """Return every labelled or stored argument, also those inside lists."""
        values: list[Any] = []
        for value in self.arguments.values():
            values += value if isinstance(value, list | tuple) else [value]
        return [value for value in values if isinstance(value, Tensor | Stored)]

    def run(self) -> Any:
        """Execute the operator itself on the labels."""
        assert callable(self.node.target)
        arguments = {name: self._plain(value) for name, value in self.arguments.items()}
        return self.node.target(**arguments)

    def _plain(self, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [self._plain(item) for item in value]
        return self.trace.labels_of(value) if isinstance(value, Stored) else value


def trace_labels(graph_module: GraphModule, names: Mapping[int, str], rules: Callable[[Any], Rule]) -> Trace:
    """Run a graph on labels.

    `names` maps the identity of each parameter and buffer to its name, `rules` an operator to its rule.
    What the graph returns is frozen. `Trace.settle` must be called before the classes are read.
    """
    inputs = [node.meta["val"] for node in graph_module.graph.nodes if node.op == "placeholder"]
    trace = Trace(batch=next((value.shape[0] for value in inputs if value.ndim), 1))
    values: dict[Node, Any] = {}
    for node in graph_module.graph.nodes:
        if node.op == "placeholder":
            values[node] = unlabelled(node.meta["val"].shape)
        elif node.op == "get_attr":
            values[node] = stored_value(attribute(graph_module, str(node.target)), names)
        else:
            arguments = map_arg((node.args, node.kwargs), values.__getitem__)
            values[node] = run_node(trace, node, arguments, rules)
    return trace


def stored_value(tensor: Any, names: Mapping[int, str]) -> Any:
    """Return what a parameter, buffer or constant of the graph is to the rules."""
    if not isinstance(tensor, Tensor):
        return tensor
    name = names.get(id(tensor))
    if name is None:
        return unlabelled(tensor.shape)
    return Stored(name, tuple(tensor.shape), isinstance(tensor, torch.nn.Parameter))


def run_node(trace: Trace, node: Node, arguments: Any, rules: Callable[[Any], Rule]) -> Any:
    """Return the labels of a call's result."""
    positional, named = arguments
    if node.op == "output":
        for value in Call(trace, node, {"outputs": flat(positional)}).tensors():
            trace.freeze(trace.labels_of(value))
        return None
    bound = dict(zip(schema_names(node), positional, strict=False)) | dict(named)
    return rules(node.target)(trace, Call(trace, node, bound))


def schema_names(node: Node) -> list[str]:
    """Return the names of an operator's arguments, in order; a plain Python function has positions."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return [str(position) for position in range(len(node.args))]
    return [argument.name for argument in schema.arguments]


def flat(value: Any) -> list[Any]:
    """Return the leaves of nested lists, tuples and dicts."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in flat(item)]
    return [value]


def unknown(trace: Trace, call: Call) -> Any:
    """Freeze what goes in; an operator that sees no channels (`arange`) is no reason to warn."""
    labelled = [labels for labels in map(trace.labels_of, call.tensors()) if trace.labelled(labels)]
    for labels in labelled:
        trace.freeze(labels)
    place = module_path(call.node)
    entry = f"{call.node.target} in {place}" if place else str(call.node.target)
    if labelled and entry not in trace.unknown:
        trace.unknown.append(entry)
    return unlabelled_like(call.node.meta.get("val"))


def unknown_layer(trace: Trace, call: Call) -> Labels:
    """Freeze a layer whose weight is not a parameter itself but computed, or that is too unusual to cut."""
    unknown(trace, call)
    return unlabelled(call.shape)


def unlabelled_like(value: Any) -> Any:
    """Return frozen labels in the place of every tensor of a result."""
    if isinstance(value, Tensor):
        return unlabelled(value.shape)
    if isinstance(value, list | tuple):
        return [unlabelled_like(item) for item in value]
    return value
