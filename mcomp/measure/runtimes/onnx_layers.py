"""What ONNX Runtime computes at each layer of a file.

Layers are found by their names, which are module paths (`mcomp_stages.methods.onnx.write`). Their values are
made outputs of a copy of the file; that keeps the runtime from fusing them with what follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx

from mcomp.measure.operators import FLOAT_LAYERS
from mcomp.measure.runtimes.onnx import load_session, session_options


def layer_values(path: Path, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
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
        found = load_session(whole, session_options(whole, 1)).run(list(values.values()), dict(inputs))
    return {name: np.asarray(value) for name, value in zip(values, found, strict=True)}


def layer_outputs(graph: onnx.GraphProto) -> Iterator[tuple[str, str]]:
    """Yield the name of each layer and of the value that it gives, its bias added."""
    for node in graph.node:
        if node.op_type in FLOAT_LAYERS and node.name:
            readers = [other for other in graph.node if node.output[0] in other.input]
            adds = len(readers) == 1 and readers[0].op_type == "Add" and node.op_type.startswith("MatMul")
            bias = adds and any(name.endswith(("bias", "bias_folded")) for name in readers[0].input)
            yield node.name, (readers[0] if bias else node).output[0]
