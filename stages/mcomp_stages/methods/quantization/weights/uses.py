"""Which weights a captured graph reads, and by which operators: layers and raw parameters alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.fx import GraphModule, Node

from mcomp.errors import StageError
from mcomp.model.graph import attribute, module_path
from mcomp.model.select import select_modules
from mcomp_stages.methods.quantization.weights.products import PRODUCTS, is_product

aten = torch.ops.aten

Operator = Literal["linear", "matmul", "embedding", "convolution"]

OPERATORS: dict[Any, Operator] = {
    aten.linear.default: "linear",
    aten.matmul.default: "matmul",
    aten.mm.default: "matmul",
    aten.addmm.default: "matmul",
    aten.embedding.default: "embedding",
    aten.conv1d.default: "convolution",
    aten.conv1d.padding: "convolution",
    aten.conv2d.default: "convolution",
    aten.conv2d.padding: "convolution",
    aten.conv3d.default: "convolution",
    aten.conv3d.padding: "convolution",
    aten.conv_transpose1d.default: "convolution",
    aten.conv_transpose2d.input: "convolution",
    aten.conv_transpose3d.input: "convolution",
}


@dataclass(frozen=True)
class UsedWeight:
    """A weight by its parameter's name, the calls that read it, and the paths of the modules that do."""

    name: str
    calls: tuple[Node, ...]
    paths: tuple[str, ...]

    @property
    def operators(self) -> frozenset[Operator]:
        """What it is read by."""
        return frozenset(OPERATORS[call.target] for call in self.calls)

    @property
    def products(self) -> tuple[Node, ...]:
        """The calls that multiply an input with it."""
        return tuple(call for call in self.calls if call.target in PRODUCTS)

    @property
    def transposed(self) -> bool:
        """Whether its columns, not its rows, are one output each, to all of its readers."""
        return self.operators == {"matmul"}

    @property
    def one_way(self) -> bool:
        """Whether its readers agree on that."""
        return self.transposed or "matmul" not in self.operators


def used_weights(captured: GraphModule, module: nn.Module) -> tuple[UsedWeight, ...]:
    """Return the weights that operators with a name read, each once, in the module's order."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    calls: dict[str, list[Node]] = {}
    owners: dict[str, list[str]] = {}
    for node in captured.graph.find_nodes(op="get_attr"):
        name = names.get(id(attribute(captured, str(node.target))))
        reading = [user for user in node.users if reads(user, node)]
        if name is not None and reading:
            calls.setdefault(name, []).extend(reading)
            owners.setdefault(name, []).append(str(node.target).rpartition(".")[0])
    return tuple(
        UsedWeight(name, tuple(calls[name]), tuple(dict.fromkeys([*owners[name], *paths_of(calls[name])])))
        for name in names.values()
        if name in calls
    )


def reads(user: Node, weight: Node) -> bool:
    """Whether a call reads a value as its weight, a matrix or more."""
    if user.target not in OPERATORS or weight.meta["val"].ndim < 2:
        return False
    if user.target in PRODUCTS:
        return is_product(user, weight) and weight.meta["val"].ndim == 2
    place = 0 if OPERATORS[user.target] == "embedding" else 1
    return user.args[place] is weight


def paths_of(calls: Sequence[Node]) -> Iterator[str]:
    """Yield the module path of each call."""
    return (module_path(call) for call in calls)


def inside(module: nn.Module, weights: Mapping[str, UsedWeight], pattern: str) -> list[str]:
    """Return the names of the weights that belong to what a pattern matches, or to what lies in it.

    Raises StageError if there are none.
    """
    selected = select_modules(module, [pattern])
    found = [
        name
        for name, weight in weights.items()
        if any(path == each or path.startswith(f"{each}.") for path in weight.paths for each in selected)
    ]
    if not found:
        what = f"'{pattern}' matches {selected[0]}, which has no weight of the chosen operators"
        raise StageError(what, about=pattern)
    return found
