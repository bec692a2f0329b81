"""ExecuTorch with XNNPACK, in a process of its own: beside the libraries of export it may abort."""

from __future__ import annotations

from pathlib import Path

from mcomp.measure.runtime import Runtime, Session
from mcomp.measure.runtimes.elsewhere import SessionElsewhere

INPUTS = "mcomp_inputs"  # a method of the program that gives the names of its inputs, which have none
PROCESS = "mcomp.measure.runtimes.executorch_process"


class ExecuTorch(Runtime):
    """ExecuTorch: XNNPACK where it has the operator, portable kernels elsewhere."""

    name = "executorch"
    title = "ExecuTorch"

    def load(self, path: Path, threads: int = 1) -> Session:
        return SessionElsewhere(path, self.title, PROCESS, threads)
