"""The runtimes that serve exported files, and the one seam that parity, accuracy and latency know of them.

Free of torch and of the runtimes: `find_runtime` imports the one that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from mcomp.errors import StageError, named, printable
from mcomp.recipe.nearest import one_of

if TYPE_CHECKING:
    import numpy as np

    from mcomp.store.ledger import Census

Sizes = tuple[int | None, ...]


class Session(Protocol):
    """A loaded file. `input_sizes` has None for each size that is free; axis 0 is the batch."""

    path: Path
    input_sizes: Mapping[str, Sizes]
    input_types: Mapping[str, np.dtype[Any]]

    def run(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the first output for inputs by name. Raises StageError if they do not fit the file."""
        ...


class Runtime:
    """Base of the runtimes. `title` is what people call it."""

    name: ClassVar[str]
    title: ClassVar[str]

    def load(self, path: Path, threads: int = 1) -> Session:
        """Return a session on the CPU. Raises StageError with the runtime's words if it refuses the file."""
        raise NotImplementedError

    def session(self, path: Path, threads: int = 1) -> Session:
        """Return a session that also takes inputs smaller than the sizes that the file fixes."""
        from mcomp.measure.fitted import fitted

        return fitted(self.load(path, threads))

    def census(self, path: Path, scratch: Path, threads: int = 1) -> Census | None:
        """Return which layers it runs in integers, None if it does not tell.

        `scratch` is a folder for what it writes. Raises StageError if it refuses the file.
        """
        return None

    def settings(self, path: Path) -> dict[str, str]:
        """Return the options without which it gives wrong results for a file on this processor."""
        return {}

    def layer_values(self, path: Path, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return what it computes at each layer, by the layer's name; nothing if it does not tell."""
        return {}

    def beside(self, path: Path) -> tuple[Path, ...]:
        """Return the files that may lie beside one and belong to it."""
        return ()

    def profile(self, path: Path, inputs: Mapping[str, np.ndarray], threads: int) -> tuple[LayerTime, ...]:
        """Return how long each operator takes in a call, the longest first; nothing if it does not tell."""
        return ()


@dataclass(frozen=True)
class LayerTime:
    """How long one operator takes in a call."""

    name: str
    operator: str
    milliseconds: float


@dataclass(frozen=True)
class Exported:
    """What an export wrote: the file that its runtime is given, and what lies beside it."""

    file: Path
    beside: tuple[Path, ...] = ()

    @property
    def size_bytes(self) -> int:
        """The bytes of all of it."""
        return sum(path.stat().st_size for path in (self.file, *self.beside))


@dataclass(frozen=True)
class Known:
    """Where a runtime's class is, what must be installed for it, and how its files end."""

    target: str
    distribution: str
    suffix: str


RUNTIMES: dict[str, Known] = {
    "onnxruntime": Known("mcomp.measure.runtimes.onnx:OnnxRuntime", "onnxruntime", ".onnx"),
    "openvino": Known("mcomp.measure.runtimes.openvino:OpenVino", "openvino", ".xml"),
    "torch": Known("mcomp.measure.runtimes.torch_program:TorchProgram", "torch", ".pt2"),
    "executorch": Known("mcomp.measure.runtimes.executorch:ExecuTorch", "executorch", ".pte"),
    "safetensors": Known("mcomp.measure.runtimes.packed_model:PackedModel", "safetensors", ".safetensors"),
}


def find_runtime(name: str) -> Runtime:
    """Return a runtime by name. Raises StageError if there is none, or with the command that installs it."""
    if name not in RUNTIMES:
        raise StageError(f"there is no runtime '{named(name)}'; it must be {one_of(RUNTIMES)}")
    known = RUNTIMES[name]
    missing = not_installed([known.distribution])
    if missing:
        raise StageError(f"the runtime {name} {missing}")
    module, _, attribute = known.target.partition(":")
    runtime: Runtime = getattr(import_module(module), attribute)()
    return runtime


def not_installed(distributions: Iterable[str]) -> str:
    """Return which distribution is missing and the command that installs it, or ""."""
    for name in distributions:
        if installed_version(name) is None:
            return f"needs the package {name}, which is not installed; pip install 'mcomp[{name}]'"
    return ""


def installed_version(distribution: str) -> str | None:
    """Return the version of a distribution, None if it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def runtime_version(name: str) -> str:
    """Return what a figure taken in a runtime depends on: its name and version."""
    known = RUNTIMES.get(name)
    return f"{name} {installed_version(known.distribution)}" if known else name


def runtime_of(path: Path) -> str:
    """Return the name of the runtime that serves a file of this name. Raises StageError if none does."""
    for name, known in RUNTIMES.items():
        if path.suffix == known.suffix:
            return name
    suffixes = one_of(known.suffix for known in RUNTIMES.values())
    raise StageError(f"{named(path.name)} is no exported file: its name must end with {suffixes}")


def main_file(names: Iterable[str], runtime: str) -> str:
    """Return which of an export's files the runtime is given; the others lie beside it."""
    listed = sorted(names)
    suffix = RUNTIMES[runtime].suffix if runtime in RUNTIMES else ""
    return next((name for name in listed if name.endswith(suffix)), listed[0])


def require_inputs(session: Session, given: Iterable[str]) -> None:
    """Raise StageError unless the inputs have the names that the file takes."""
    if set(given) != set(session.input_sizes):
        wanted, found = (", ".join(map(named, names)) or "nothing" for names in (session.input_sizes, given))
        raise StageError(f"{session.path.name} takes {wanted}, but was given {found}")


def require_file(path: Path) -> None:
    """Raise StageError if there is no file."""
    if not path.is_file():
        raise StageError(f"{path}: no such file")


def refused(title: str, does: str, path: Path, error: Exception) -> StageError:
    """Return the error for a file that a runtime cannot load or run, with its own words."""
    return StageError(f"{title} cannot {does} {path.name}: {printable(str(error).strip())}")
