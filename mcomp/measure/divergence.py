"""The first layer at which a file gives other values than the model it came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from mcomp.measure.sqnr import sqnr_db
from mcomp.model.graph import module_path

LAYERS = ("conv", "linear", "addmm", "mm", "matmul")  # how the names of torch's operators begin


@dataclass(frozen=True)
class Divergence:
    """A layer by its module path, and the SQNR of the file's values of it against the model's."""

    module: str
    sqnr_db: float


def first_divergence(
    served: Mapping[str, np.ndarray], module: GraphModule, inputs: Mapping[str, Tensor], smallest_db: float
) -> Divergence | None:
    """Return the first layer, in the order of the graph, whose values have an SQNR below `smallest_db`.

    `served` is what the file gives for `inputs` at its layers (`Runtime.layer_values`). None if there is
    none: the difference lies between the layers, or builds up along them.
    """
    expected = layer_values(module, inputs)
    for name, value in expected.items():
        if name in served and served[name].shape == tuple(value.shape):
            ratio = sqnr_db(value, torch.from_numpy(served[name]))
            if ratio < smallest_db:
                return Divergence(name.partition(":")[0], ratio)
    return None


def layer_values(module: GraphModule, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what each layer gives, by its module path, and an ordinal where it runs several times."""
    recorder = Recorder(module, layer_ends(module))
    names = [str(node.target) for node in module.graph.find_nodes(op="placeholder")]
    with torch.no_grad():
        recorder.run(*(inputs[name] for name in names))
    return recorder.values


class Recorder(Interpreter):
    """Runs a graph and keeps the values of the nodes that have a name in `names`."""

    def __init__(self, module: GraphModule, names: Mapping[Node, str]) -> None:
        super().__init__(module)
        self.values: dict[str, Tensor] = {}
        self._names = names

    def run_node(self, n: Node) -> Any:
        """Compute one node. Overrides torch.fx."""
        value = super().run_node(n)
        if n in self._names and isinstance(value, Tensor):
            self.values[self._names[n]] = value.clone()  # what follows may work in place
        return value


def layer_ends(module: GraphModule) -> dict[Node, str]:
    """Return the node at which each layer's value stands as in a file, with the layer's name."""
    count: Counter[str] = Counter()
    ends: dict[Node, str] = {}
    for node in module.graph.nodes:
        if node.op == "call_function" and node.name.startswith(LAYERS):
            path = module_path(node)
            count[path] += 1
            ends[norm_behind(node) or node] = path if count[path] == 1 else f"{path}:{count[path]}"
    return ends


def norm_behind(node: Node) -> Node | None:
    """Return the batch norm that alone reads a value, be it in another type, or None."""
    users = list(node.users)
    if len(users) == 1 and users[0].name.startswith("to"):
        return norm_behind(users[0])
    return users[0] if len(users) == 1 and users[0].name.startswith("batch_norm") else None
