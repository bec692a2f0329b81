"""A captured graph as a .pte file for XNNPACK."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.fx import GraphModule

from mcomp.errors import StageError, printable
from mcomp.measure.runtimes.elsewhere import died
from mcomp.measure.runtimes.executorch import INPUTS
from mcomp.model.example import Example
from mcomp_stages.methods.executorch.quantizers import with_known_quantizers
from mcomp_stages.methods.export.sizes import free_sizes
from mcomp_stages.methods.program.write import exported_program

PROCESS = "mcomp_stages.methods.executorch.lower"


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
    program = exported_program(with_known_quantizers(graph_module), example)
    source, texts = path.with_suffix(".pt2"), path.with_suffix(".json")
    torch.export.save(program, source)
    told = {INPUTS: ",".join(example), **{name.replace(".", "_"): value for name, value in metadata.items()}}
    texts.write_text(json.dumps(told), encoding="utf-8")
    command = [sys.executable, "-m", PROCESS, *map(str, (source, path, texts))]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise died("ExecuTorch", f"write {path.name}", done.returncode)
    found: dict[str, Any] = json.loads(done.stdout)
    if "error" in found:
        said = printable(str(found["error"]).partition("\n")[0])
        raise StageError(f"ExecuTorch cannot take the model: {said}")
    return found
