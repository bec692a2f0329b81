"""ExecuTorch with XNNPACK, in the build for Python that its package brings."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mcomp.measure.runtime import Runtime, Session, Sizes, refused, require_file, require_inputs

INPUTS = "mcomp_inputs"  # a method of the program that gives the names of its inputs, which have none

TYPES = {4: "int64", 6: "float32"}  # ExecuTorch's numbers of types


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what executorch and torchao warn of when they are imported, and nobody can act on."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


class ExecuTorchSession:
    """A loaded .pte file. Raises StageError if ExecuTorch refuses it.

    Its threads are those of the process: the last session that is loaded says how many.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        require_file(path)
        self.path, self.threads = path, threads
        with quiet():
            from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool
            from executorch.runtime import Runtime as Loader
        try:
            program = Loader.get().load_program(path)
            self._method = program.load_method("forward")
            names = program.load_method(INPUTS).execute([])[0]
        except Exception as error:  # it raises RuntimeError and others
            raise refused(ExecuTorch.title, "load", path, error) from error
        self._reset_threads = _unsafe_reset_threadpool
        self._names = str(names).split(",")
        metadata = self._method.metadata
        self.input_sizes: Mapping[str, Sizes] = {
            name: tuple(metadata.input_tensor_meta(place).sizes()) for place, name in enumerate(self._names)
        }
        self.input_types: Mapping[str, np.dtype[Any]] = {
            name: np.dtype(TYPES.get(metadata.input_tensor_meta(place).dtype(), "float32"))
            for place, name in enumerate(self._names)
        }

    def run(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the first output for inputs by name. Raises StageError if they do not fit the file."""
        require_inputs(self, inputs)
        given = [torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in self._names]
        try:
            output = self._method.execute(given)[0]
        except Exception as error:  # as above
            raise refused(ExecuTorch.title, "run", self.path, error) from error
        return np.array(output.detach().numpy())


class ExecuTorch(Runtime):
    """ExecuTorch: XNNPACK where it has the operator, portable kernels elsewhere."""

    name = "executorch"
    title = "ExecuTorch"

    def load(self, path: Path, threads: int = 1) -> Session:
        session = ExecuTorchSession(path, threads)
        session._reset_threads(threads)
        return session
