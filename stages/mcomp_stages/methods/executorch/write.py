"""A captured graph as a .pte file for XNNPACK."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.fx import GraphModule

from mcomp.errors import StageError
from mcomp.measure.runtimes.executorch import INPUTS, quiet
from mcomp.model.example import Example
from mcomp.model.uncapturable import first_line
from mcomp_stages.methods.executorch.quantizers import with_known_quantizers
from mcomp_stages.methods.export.sizes import free_sizes
from mcomp_stages.methods.program.write import exported_program

DELEGATE = "executorch_call_delegate"


def write_executorch(
    graph_module: GraphModule, example: Example, path: Path, metadata: Mapping[str, str]
) -> dict[str, Any]:
    """Write a graph in inference mode; return how many parts XNNPACK runs, and which operators it does not.

    `metadata` and the names of the inputs become methods of the program that give a text. Raises StageError
    for sizes that are free, and for an operator that ExecuTorch lacks.
    """
    free = free_sizes(example)
    if free:
        fixed = ", ".join(f"{name}: ..." for name in free)
        raise StageError(
            f"ExecuTorch takes fixed sizes, and {', '.join(free)} varies; add fixed: {{{fixed}}}"
        )
    with quiet():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        program = exported_program(with_known_quantizers(graph_module), example)
        texts = {name.replace(".", "_"): value for name, value in metadata.items()}
        try:
            lowered = to_edge_transform_and_lower(
                program,
                partitioner=[XnnpackPartitioner()],
                constant_methods={INPUTS: ",".join(example), **texts},
            )
            written = lowered.to_executorch()
        except Exception as error:  # it raises whatever its passes do
            raise StageError(f"ExecuTorch cannot take the model: {first_line(error)}") from error
    path.write_bytes(written.buffer)
    called = [node for node in lowered.exported_program().graph.nodes if node.op == "call_function"]
    others = Counter(operator_name(node) for node in called if node.name.startswith("aten"))
    return {
        "delegates": sum(node.target is torch.ops.higher_order.executorch_call_delegate for node in called),
        "not_delegated": dict(sorted(others.items())),
    }


def operator_name(node: torch.fx.Node) -> str:
    """Return the name of a node's operator in ATen."""
    return str(getattr(node.target, "__name__", node.target)).partition("(")[0]
