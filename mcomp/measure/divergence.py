"""The first layer at which a file gives other values than the model it came from.

Layers of the file are found by their names, which are module paths (`mcomp_stages.methods.onnx.write`). Their
values are made outputs of a copy of the file; that keeps the runtime from fusing them with what follows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from mcomp.measure.operators import FLOAT_LAYERS
from mcomp.measure.runtime import load_session, session_options
from mcomp.measure.sqnr import sqnr_db
from mcomp.model.graph import module_path

LAYERS = ("conv", "linear", "addmm", "mm", "matmul")  # how the names of torch's operators begin


@dataclass(frozen=True)
class Divergence:
    """A layer by its module path, and the SQNR of the file's values of it against the model's."""

    module: str
    sqnr_db: float


def first_divergence(
    path: Path, module: GraphModule, inputs: Mapping[str, Tensor], smallest_db: float
) -> Divergence | None:
    """Return the first layer, in the order of the graph, whose values have an SQNR below `smallest_db`.

    None if there is none: the difference lies between the layers, or builds up along them.
    """
    expected = layer_values(module, inputs)
    served = served_values(path, inputs)
    for name, value in expected.items():
        if name in served and served[name].shape == value.shape:
            ratio = sqnr_db(value, served[name])
            if ratio < smallest_db:
                return Divergence(name.partition(":")[0], ratio)
    return None


def layer_values(module: GraphModule, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what each layer gives, by its module path, and an ordinal where it runs several times."""
    recorder = Recorder(module)
    names = [str(node.target) for node in module.graph.find_nodes(op="placeholder")]
    with torch.no_grad():
        recorder.run(*(inputs[name] for name in names))
    return recorder.values


class Recorder(Interpreter):
    """Runs a graph and keeps what its layers give, behind batch norms that files fold into them."""

    def __init__(self, module: GraphModule) -> None:
        super().__init__(module)
        self.values: dict[str, Tensor] = {}
        self._names = layer_ends(module)

    def run_node(self, n: Node) -> Any:
        """Compute one node. Overrides torch.fx."""
        value = super().run_node(n)
        if n in self._names and isinstance(value, Tensor):
            self.values[self._names[n]] = value.clone()  # what follows may work in place
        return value


def layer_ends(module: GraphModule) -> dict[Node, str]:
    """Return the node at which each layer's value stands as in a file, with the layer's name."""
    count: Counter[str] = Counter()
    ends: dict[Node, str] = {}
    for node in module.graph.nodes:
        if node.op == "call_function" and node.name.startswith(LAYERS):
            path = module_path(node)
            count[path] += 1
            ends[norm_behind(node) or node] = path if count[path] == 1 else f"{path}:{count[path]}"
    return ends


def norm_behind(node: Node) -> Node | None:
    """Return the batch norm that alone reads a value, be it in another type, or None."""
    users = list(node.users)
    if len(users) == 1 and users[0].name.startswith("to"):
        return norm_behind(users[0])
    return users[0] if len(users) == 1 and users[0].name.startswith("batch_norm") else None


def served_values(path: Path, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what the runtime computes at each layer of a file, by the layer's name."""
    model = onnx.load(path)
    values = dict(layer_outputs(model.graph))
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(
        onnx.ValueInfoProto(name=value) for value in values.values() if value not in known
    )
    with TemporaryDirectory() as folder:
        whole = Path(folder) / path.name
        onnx.save(model, whole)
        session = load_session(whole, session_options(1))
        given = {name: value.cpu().numpy() for name, value in inputs.items()}
        found = session.run(list(values.values()), given)
    return {name: torch.from_numpy(value) for name, value in zip(values, found, strict=True)}


def layer_outputs(graph: onnx.GraphProto) -> Iterator[tuple[str, str]]:
    """Yield the name of each layer and of the value that it gives, its bias added."""
    for node in graph.node:
        if node.op_type in FLOAT_LAYERS and node.name:
            readers = [other for other in graph.node if node.output[0] in other.input]
            adds = len(readers) == 1 and readers[0].op_type == "Add" and node.op_type.startswith("MatMul")
            bias = adds and any(name.endswith(("bias", "bias_folded")) for name in readers[0].input)
            yield node.name, (readers[0] if bias else node).output[0]
