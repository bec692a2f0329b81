"""Captured graphs that are used again: capturing takes a second, and one pipeline asks for few graphs often.

What a graph looks like follows from the structure of a module and never from its weights. So a graph is kept
without weights, and gets those of the next module of the same structure. What a module's structure is must be
told by its class, its plain settings and its tensors; of any other module no graph is kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node

from mcomp.model.example import Example

MOST_KEPT = 16

PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)

# What every module holds: tensors and modules are told by their names, and hooks may do anything.
EVERY = frozenset(nn.Module().__dict__)
HOOKS = frozenset(name for name in EVERY if name.endswith("hooks"))


@dataclass(frozen=True)
class Kept:
    """A captured graph, and by name what it reads beside the parameters and buffers of its module."""

    graph: Graph
    constants: Mapping[str, Any]

    @classmethod
    def of(cls, captured: GraphModule, module: nn.Module) -> Kept:
        """Keep what was captured from `module`, without its weights."""
        own = tensors(module)
        constants = {name: value for name, value in attributes(captured) if name not in own}
        return cls(copied(captured.graph), constants)

    def on(self, module: nn.Module) -> GraphModule:
        """Return the graph with the parameters and buffers of `module`, which it shares."""
        return GraphModule({**tensors(module), **self.constants}, copied(self.graph))


@dataclass
class Captures:
    """The graphs that were last captured or used again, by what they depend on."""

    kept: OrderedDict[Hashable, Kept] = field(default_factory=OrderedDict)

    def find(self, name: Hashable) -> Kept | None:
        """Return a graph that was kept, or None."""
        if name in self.kept:
            self.kept.move_to_end(name)
        return self.kept.get(name)

    def keep(self, name: Hashable, kept: Kept) -> None:
        """Keep a graph, and give up the one that was not asked for longest."""
        self.kept[name] = kept
        if len(self.kept) > MOST_KEPT:
            self.kept.popitem(last=False)


def copied(graph: Graph) -> Graph:
    """Return a copy of a graph. By deepcopy, torch 2.13 would warn of how it copies the tree of inputs."""
    copy, nodes = Graph(), dict[Node, Node]()
    for node in graph.nodes:
        nodes[node] = copy.node_copy(node, nodes.__getitem__)
    copy.set_codegen(graph._codegen)
    return copy


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers of a module, by every name that they have."""
    parameters = module.named_parameters(remove_duplicate=False)
    return dict([*parameters, *module.named_buffers(remove_duplicate=False)])


def attributes(captured: GraphModule) -> Iterator[tuple[str, Any]]:
    """Yield what a graph reads of its module, with its dotted name."""
    for node in captured.graph.find_nodes(op="get_attr"):
        value: Any = captured
        for part in str(node.target).split("."):
            value = getattr(value, part)
        yield str(node.target), value


class Opaque(Exception):
    """A module whose structure cannot be told."""


def dependencies(module: nn.Module, example: Mapping[str, Tensor]) -> Hashable | None:
    """Return what the graph of a module in inference mode depends on, None if that cannot be told."""
    seen: dict[int, int] = {}
    try:
        modules = tuple(
            (path, structure(part, seen)) for path, part in module.named_modules(remove_duplicate=False)
        )
    except Opaque:
        return None
    varying = example.varying if isinstance(example, Example) else {}
    inputs = tuple((name, kind(value), *varying.get(name, {}).items()) for name, value in example.items())
    return modules, inputs, torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")


def structure(part: nn.Module, seen: dict[int, int]) -> Hashable:
    """Return the structure of one module without those in it; `seen` numbers tensors, to tell tied ones.

    Raises Opaque.
    """
    if any(part.__dict__.get(name) for name in HOOKS):
        raise Opaque
    settings = {name: value for name, value in part.__dict__.items() if name not in EVERY}
    held = tuple(
        (name, None if tensor is None else (kind(tensor), seen.setdefault(id(tensor), len(seen))))
        for name, tensor in (*part._parameters.items(), *part._buffers.items())
    )
    return type(part), plain(settings), held


def kind(tensor: Tensor) -> Hashable:
    """Return everything about a tensor but its numbers."""
    return tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device, tensor.requires_grad


def plain(value: Any) -> Hashable:
    """Return a module's setting as something that can be compared. Raises Opaque."""
    if isinstance(value, PLAIN):
        return type(value), value
    if isinstance(value, list | tuple):
        return type(value), tuple(map(plain, value))
    if isinstance(value, dict):
        return type(value), tuple((plain(key), plain(item)) for key, item in value.items())
    raise Opaque
