"""PyTorch on the CPU, running a program that torch.export saved (.pt2), or one that AOTInductor compiled."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

from mcomp.measure.divergence import LAYERS, Recorder, norm_behind
from mcomp.measure.runtime import Runtime, Session, Sizes, refused, require_file, require_inputs

COMPILED = "/data/aotinductor/"
INPUTS = "mcomp.inputs"  # of a compiled program, below `extra`: by name the type, and the sizes


class ModuleSession:
    """A module of torch that was read from a file."""

    def __init__(
        self,
        path: Path,
        module: Callable[..., Any],
        input_sizes: Mapping[str, Sizes],
        input_types: Mapping[str, np.dtype[Any]],
        threads: int = 1,
    ) -> None:
        self.path, self.module, self.threads = path, module, threads
        self.input_sizes, self.input_types = input_sizes, input_types

    def run(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the first output for inputs by name. Raises StageError if they do not fit the file."""
        require_inputs(self, inputs)
        given = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in inputs.items()}
        try:
            with torch.no_grad(), num_threads(self.threads):
                output = self.module(**given)
        except Exception as error:  # it raises whatever the operators do
            raise refused(TorchProgram.title, "run", self.path, error) from error
        first = output[0] if isinstance(output, tuple | list) else output
        return np.asarray(first.numpy())


def loaded(path: Path, threads: int = 1) -> ModuleSession:
    """Return a .pt2 file ready to run. Raises StageError if torch refuses it."""
    require_file(path)
    if is_compiled(path):
        return compiled(path, threads)
    try:
        program = torch.export.load(path)
    except Exception as error:  # it raises whatever the pieces of the archive do
        raise refused(TorchProgram.title, "load", path, error) from error
    types = {name: numpy_type(value.dtype) for name, value in input_values(program).items()}
    return ModuleSession(path, program.module(), input_sizes(program), types, threads)


def is_compiled(path: Path) -> bool:
    """Whether a .pt2 file is a package of AOTInductor."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(COMPILED in name for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def compiled(path: Path, threads: int) -> ModuleSession:
    """Return a package of AOTInductor ready to run. Raises StageError if torch refuses it."""
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(f"/extra/{INPUTS}"))
            takes = json.loads(archive.read(name))
        module = torch._inductor.aoti_load_package(str(path))
    except Exception as error:  # as above, and what a package of others does not have
        raise refused(TorchProgram.title, "load", path, error) from error
    sizes = {name: tuple(told[1:]) for name, told in takes.items()}
    types = {name: np.dtype(told[0]) for name, told in takes.items()}
    return ModuleSession(path, module, sizes, types, threads)


class TorchProgram(Runtime):
    """PyTorch itself."""

    name = "torch"
    title = "PyTorch"

    def load(self, path: Path, threads: int = 1) -> Session:
        return loaded(path, threads)

    def layer_values(self, path: Path, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return what it computes at each layer, known by the name of its weight."""
        module = loaded(path).module
        if not isinstance(module, GraphModule):
            return {}  # machine code does not tell
        recorder = Recorder(module, dict(layer_ends(module)))
        names = [str(node.target) for node in module.graph.find_nodes(op="placeholder")]
        with torch.no_grad():
            recorder.run(*(torch.from_numpy(inputs[name]) for name in names))
        return {name: value.numpy() for name, value in recorder.values.items()}


def input_sizes(program: ExportedProgram) -> dict[str, Sizes]:
    """Return the sizes of the inputs of a program, None for what is free."""
    return {
        name: tuple(size if isinstance(size, int) else None for size in value.shape)
        for name, value in input_values(program).items()
    }


def input_values(program: ExportedProgram) -> dict[str, torch.Tensor]:
    """Return stand-ins for the inputs of a program by name."""
    values = {node.name: node.meta["val"] for node in program.graph.find_nodes(op="placeholder")}
    names = program.graph_signature.user_inputs
    return {name: values[name] for name in names if isinstance(name, str)}


def numpy_type(dtype: torch.dtype) -> np.dtype[Any]:
    """Return the type of numpy that torch's stands for."""
    return np.dtype(torch.empty(0, dtype=dtype).numpy().dtype)


@contextmanager
def num_threads(threads: int) -> Iterator[None]:
    """Let torch use so many threads, and then as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def layer_ends(module: GraphModule) -> Iterator[tuple[Node, str]]:
    """Yield the node at which the value of each layer stands, and the layer's name."""
    count: Counter[str] = Counter()
    for node in module.graph.nodes:
        if node.op == "call_function" and node.name.startswith(LAYERS):
            path = weight_owner(node)
            count[path] += 1
            yield norm_behind(node) or node, path if count[path] == 1 else f"{path}:{count[path]}"


def weight_owner(node: Node) -> str:
    """Return the path of the module whose weight a layer reads, "" if none."""
    sources: list[Any] = [arg for arg in node.args[1:] if isinstance(arg, Node)]
    for source in sources:
        while source.op != "get_attr" and source.all_input_nodes:
            source = source.all_input_nodes[0]
        if source.op == "get_attr":
            return str(source.target).rpartition(".")[0]
    return ""
