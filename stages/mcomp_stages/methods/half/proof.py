"""The proof that a model in 16 bits is the float model: no overflow, and every layer's values near enough."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from mcomp.errors import StageError
from mcomp.measure.divergence import layer_values
from mcomp.measure.sqnr import sqnr_db
from mcomp.model.graph import module_path
from mcomp_stages.methods.half.choice import LARGEST
from mcomp_stages.methods.half.lower import half_nodes

Inputs = Mapping[str, Tensor]


class Extremes(Interpreter):
    """Runs a graph in float and keeps the largest magnitude of each value that is to be of 16 bits."""

    def __init__(self, graph_module: GraphModule, watched: Iterable[Node]) -> None:
        super().__init__(graph_module)
        self.largest = dict.fromkeys(watched, 0.0)

    def run_node(self, n: Node) -> Any:
        """Compute one node. Overrides torch.fx."""
        value = super().run_node(n)
        if n in self.largest:
            self.largest[n] = max(self.largest[n], value.abs().max().item())
        return value


def require_no_overflow(
    graph_module: GraphModule, keep_float: tuple[str, ...], batches: Iterable[Inputs]
) -> float:
    """Return the largest activation that is to be of 16 bits, in float, over some batches.

    The inputs of such calls count as well. Raises StageError naming the first that float16 has no number for.
    """
    computes = half_nodes(graph_module.graph, keep_float)
    read = {source for node in computes for source in node.all_input_nodes if source.op != "get_attr"}
    watched = [node for node in graph_module.graph.nodes if node in computes or node in read]
    extremes = Extremes(graph_module, [node for node in watched if is_float(node)])
    names = [str(node.target) for node in graph_module.graph.find_nodes(op="placeholder")]
    with torch.no_grad():
        for inputs in batches:
            extremes.run(*(inputs[name] for name in names))
    for node, largest in extremes.largest.items():
        if not largest <= LARGEST:
            path = module_path(node)
            what = f"{node.name} reaches {largest:.6g}, and float16 ends at {LARGEST:.0f}"
            keep = f", or keep_float: [{path}]" if path else ""
            raise StageError(f"{what}; set activations: float{keep}", module=path)
    return max(extremes.largest.values(), default=0.0)


def is_float(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.is_floating_point()


def require_near(
    original: GraphModule, served: GraphModule, inputs: Inputs, smallest_db: float
) -> dict[str, float]:
    """Return the SQNR of each layer's values against the float model's, in dB.

    Raises StageError naming the first layer below `smallest_db`.
    """
    expected, given = layer_values(original, inputs), layer_values(served, inputs)
    ratios = {name: round(sqnr_db(value, given[name]), 1) for name, value in expected.items()}
    for name, ratio in ratios.items():
        if ratio < smallest_db:
            path = name.partition(":")[0]
            raise StageError(
                f"in 16 bits its values have an SQNR of {ratio:.1f} dB, and {smallest_db:g} are needed; "
                f"keep_float: [{path}] leaves it in float, smallest_sqnr_db: accepts less",
                module=path,
            )
    return ratios
