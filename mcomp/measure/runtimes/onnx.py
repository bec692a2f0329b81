"""ONNX Runtime on the CPU. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from mcomp.measure.runtime import LayerTime, Runtime, Session, Sizes, refused, require_file, require_inputs
from mcomp.measure.saturation import served_with
from mcomp.store.ledger import Census

# As the runtime calls types, and numpy.
TYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}
TYPES |= {f"tensor({name})": name for name in ("int64", "int32", "int8", "uint8", "bool")}
FATAL = 4  # the log level that keeps ONNX Runtime off the terminal; what goes wrong is raised


def session_options(path: Path, threads: int) -> ort.SessionOptions:
    """Return what every figure of a file is taken with.

    That is all optimisations, `threads` for one operator, and sums that are exact on this processor.
    Raises StageError if there is no such file.
    """
    require_file(path)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = FATAL
    for name, value in served_with(path).items():
        options.add_session_config_entry(name, value)
    if threads > 1:
        # Spinning threads that share a core with other work make small integer models slower than float ones.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def load_session(path: Path, options: ort.SessionOptions) -> ort.InferenceSession:
    """Return a session on the CPU. Raises StageError with the runtime's words if it refuses the file."""
    require_file(path)
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's errors have no common base below Exception
        raise refused(OnnxRuntime.title, "load", path, error) from error


class OnnxSession:
    """A loaded file. Raises StageError if ONNX Runtime refuses it."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.path = path
        self._session = load_session(path, session_options(path, threads))
        self.input_sizes: Mapping[str, Sizes] = {
            node.name: tuple(size if isinstance(size, int) else None for size in node.shape)
            for node in self._session.get_inputs()
        }
        self.input_types: Mapping[str, np.dtype[Any]] = {
            node.name: np.dtype(TYPES.get(node.type, "float32")) for node in self._session.get_inputs()
        }
        self._output_name = self._session.get_outputs()[0].name

    def run(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the first output for inputs by name. Raises StageError if they do not fit the file."""
        require_inputs(self, inputs)
        try:
            (output,) = self._session.run([self._output_name], dict(inputs))
        except Exception as error:  # as in load_session
            raise refused(OnnxRuntime.title, "run", self.path, error) from error
        return np.asarray(output)


class OnnxRuntime(Runtime):
    """ONNX Runtime, with all of its optimisations."""

    name = "onnxruntime"
    title = "ONNX Runtime"

    def load(self, path: Path, threads: int = 1) -> Session:
        return OnnxSession(path, threads)

    def census(self, path: Path, scratch: Path, threads: int = 1) -> Census:
        from mcomp.measure.census import census

        return census(path, scratch, threads)

    def beside(self, path: Path) -> tuple[Path, ...]:
        return (path.with_name(f"{path.name}.data"),)

    def profile(self, path: Path, inputs: Mapping[str, np.ndarray], threads: int) -> tuple[LayerTime, ...]:
        from mcomp.measure.runtimes.onnx_profile import profile

        return profile(path, inputs, threads)

    def settings(self, path: Path) -> dict[str, str]:
        return served_with(path)

    def layer_values(self, path: Path, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        from mcomp.measure.runtimes.onnx_layers import layer_values

        return layer_values(path, inputs)
