"""The process that makes a .pte file of a program: ExecuTorch's libraries stay out of the others.

python -m mcomp_stages.methods.executorch.lower PROGRAM.pt2 FILE.pte TEXTS.json

Prints as JSON how many parts XNNPACK runs, and which operators it does not, or an error.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any


def lower(source: Path, target: Path, texts: dict[str, str]) -> dict[str, Any]:
    """Write a program for XNNPACK; `texts` become methods of it that give a text."""
    import torch
    import torch.ao.quantization.fx._decomposed  # registers torch.ops.quantized_decomposed
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    program = torch.export.load(source)
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()], constant_methods=texts)
    target.write_bytes(lowered.to_executorch().buffer)
    called = [node for node in lowered.exported_program().graph.nodes if node.op == "call_function"]
    others = Counter(operator_name(node) for node in called if node.name.startswith("aten"))
    return {
        "delegates": sum(node.target is torch.ops.higher_order.executorch_call_delegate for node in called),
        "not_delegated": dict(sorted(others.items())),
    }


def operator_name(node: Any) -> str:
    """Return the name of a node's operator in ATen."""
    return str(getattr(node.target, "__name__", node.target)).partition("(")[0]


def main(source: str, target: str, texts: str) -> None:
    """Do it, and say what came of it on standard output; what the libraries print goes to stderr."""
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    try:
        found = lower(Path(source), Path(target), json.loads(Path(texts).read_text(encoding="utf-8")))
    except Exception as error:  # its passes raise whatever they like
        found = {"error": str(error).strip() or type(error).__name__}
    json.dump(found, said)
    said.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
