"""The process in which ExecuTorch runs a file.

python -m mcomp.measure.runtimes.executorch_process FILE THREADS
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mcomp.measure.runtimes.elsewhere import Run, serve
from mcomp.measure.runtimes.executorch import INPUTS

TYPES = {1: "int8", 3: "int32", 4: "int64", 6: "float32", 11: "bool"}  # ExecuTorch's numbers of types


def load(path: Path, threads: int) -> tuple[Mapping[str, Sequence[Any]], Run]:
    """Return what a program takes, and what runs it."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    import torch
    from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool
    from executorch.runtime import Runtime

    _unsafe_reset_threadpool(threads)
    program = Runtime.get().load_program(path)
    method = program.load_method("forward")
    names = str(program.load_method(INPUTS).execute([])[0]).split(",")
    told = [method.metadata.input_tensor_meta(place) for place in range(len(names))]
    takes = {name: [TYPES[each.dtype()], *each.sizes()] for name, each in zip(names, told, strict=True)}

    def run(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        given = [torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in names]
        return np.asarray(method.execute(given)[0].detach().numpy())

    return takes, run


if __name__ == "__main__":
    serve(load)
