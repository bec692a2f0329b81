"""What ONNX does not have: the operator of torch, and the layers that need it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch.fx import GraphModule

from mcomp.errors import StageError, printable
from mcomp.model.graph import module_path

# As torch's exporter names what it has no function for, after it took apart what it can.
MISSING = re.compile(r"No ONNX function found for <OpOverload\(op='\w+\.(\w+)'")
SHOWN = 5


def lacking_operators(graph_module: GraphModule, error: Exception) -> StageError:
    """Return the error for a graph that cannot be written: what ONNX lacks, and the layers that need it."""
    words = "\n".join(str(each) for each in causes(error))
    missing = set(MISSING.findall(words))
    layers: dict[str, list[str]] = {}
    for node in graph_module.graph.nodes:
        operator = str(node.target)
        if node.op == "call_function" and any(name in operator for name in missing):
            layers.setdefault(operator, []).append(module_path(node) or str(node.name))
    if not layers:
        said = next((line for line in words.splitlines() if line.strip()), type(error).__name__)
        return StageError(f"torch.onnx cannot write the model: {printable(said.strip())}")
    listed = "; ".join(f"{each} ({', '.join(paths[:SHOWN])})" for each, paths in layers.items())
    return StageError(f"ONNX has no operator for {listed}; write what these layers compute with others")


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__
