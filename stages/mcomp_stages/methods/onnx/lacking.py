"""What ONNX does not have: the operator of torch, and the layers that need it."""

from __future__ import annotations

import re

from torch.fx import GraphModule

from mcomp.errors import StageError, printable
from mcomp.model.graph import module_path

# As torch's exporter names what it has no function for.
OPERATOR = re.compile(r"OpOverload\(op='([\w.:]+)', overload='(\w+)'\)")
SHOWN = 5


def lacking_operators(graph_module: GraphModule, error: Exception) -> StageError:
    """Return the error for a graph that cannot be written: what ONNX lacks, and the layers that need it."""
    missing = {f"{name}.{overload}".replace("::", ".") for name, overload in OPERATOR.findall(str(error))}
    layers: dict[str, list[str]] = {}
    for node in graph_module.graph.nodes:
        if node.op == "call_function" and str(node.target) in missing:
            layers.setdefault(str(node.target), []).append(module_path(node) or str(node.name))
    if not layers:
        said = printable(str(error).strip().splitlines()[-1])
        return StageError(f"torch.onnx cannot write the model: {said}")
    listed = "; ".join(f"{each} ({', '.join(paths[:SHOWN])})" for each, paths in layers.items())
    return StageError(f"ONNX has no operator for {listed}; write what these layers compute with others")
