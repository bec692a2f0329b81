"""OpenVINO on the CPU, in the precision that the file says. Free of torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mcomp.measure.runtime import Runtime, Session, Sizes, refused, require_file, require_inputs
from mcomp.measure.runtimes.unreported_openvino import ov
from mcomp.store.ledger import Census

# As OpenVINO calls operators with a weight in the graph that it runs.
LAYERS = ("Convolution", "Deconvolution", "FullyConnected", "MatMul")
INTEGERS = ("u8", "i8")
# As they are called in the file.
PRODUCTS = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul")


def settings(threads: int) -> dict[str, Any]:
    """Return what every figure is taken with.

    Its default precision is bfloat16 where the processor has it: another model than the one that was proven.
    """
    return {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}


def compiled(model: Path | ov.Model, path: Path, threads: int) -> ov.CompiledModel:
    """Return a model ready to run. Raises StageError with OpenVINO's words if it refuses it."""
    try:
        return ov.Core().compile_model(model, "CPU", settings(threads))
    except Exception as error:  # it raises RuntimeError and others
        raise refused(OpenVino.title, "load", path, error) from error


class OpenVinoSession:
    """A loaded .xml file with its .bin beside it. Raises StageError if OpenVINO refuses it."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        require_file(path)
        self.path = path
        self.compiled = compiled(path, path, threads)
        self.input_sizes: Mapping[str, Sizes] = {
            port.any_name: tuple(size.get_length() if size.is_static else None for size in port.partial_shape)
            for port in self.compiled.inputs
        }
        self.input_types: Mapping[str, np.dtype[Any]] = {
            port.any_name: np.dtype(port.element_type.to_dtype()) for port in self.compiled.inputs
        }
        self._request = self.compiled.create_infer_request()

    def run(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the first output for inputs by name. Raises StageError if they do not fit the file."""
        require_inputs(self, inputs)
        try:
            self._request.infer(dict(inputs), share_inputs=True)
        except Exception as error:  # as in `compiled`
            raise refused(OpenVino.title, "run", self.path, error) from error
        return np.array(self._request.get_output_tensor(0).data)


class OpenVino(Runtime):
    """OpenVINO, with `INFERENCE_PRECISION_HINT=f32`."""

    name = "openvino"
    title = "OpenVINO"

    def load(self, path: Path, threads: int = 1) -> Session:
        return OpenVinoSession(path, threads)

    def census(self, path: Path, scratch: Path, threads: int = 1) -> Census:
        """Count the operators of the graph that OpenVINO runs on this machine."""
        nodes = OpenVinoSession(path, threads).compiled.get_runtime_model().get_ops()
        kinds = [fact(node, "layerType") for node in nodes]
        layers = [node for node, kind in zip(nodes, kinds, strict=True) if kind in LAYERS and weight(node)]
        in_float = [node for node in layers if fact(node, "runtimePrecision") not in INTEGERS]
        return Census(
            int8=len(layers) - len(in_float),
            float=len(in_float),
            by_type=dict(sorted(Counter(kind for kind in kinds if kind != "Const").items())),
            float_layers=tuple(layer_name(node) for node in in_float),
        )

    def beside(self, path: Path) -> tuple[Path, ...]:
        return (path.with_suffix(".bin"),)

    def layer_values(self, path: Path, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return what it computes at each layer, whose names are those of the ONNX file that it came from."""
        model = ov.Core().read_model(path)
        ends = dict(layer_ends(model))
        first = len(model.outputs)
        model.add_outputs(list(ends.values()))
        request = compiled(model, path, 1).create_infer_request()
        request.infer(dict(inputs))
        values = (request.get_output_tensor(first + place).data for place in range(len(ends)))
        return {name: np.array(value) for name, value in zip(ends, values, strict=True)}


def fact(node: ov.Node, name: str) -> str:
    """Return what OpenVINO says of a node of the graph that it runs, "" if nothing."""
    info = node.get_rt_info()
    return str(info[name].value) if name in info else ""


def weight(node: ov.Node) -> str:
    """Return the name of the constant that a layer multiplies with, "" if it is no layer of a model."""
    for port in node.inputs()[1:2]:
        source = port.get_source_output().get_node()
        while fact(source, "layerType") != "Const" and source.get_input_size():
            source = source.input(0).get_source_output().get_node()
        if fact(source, "layerType") == "Const":
            return str(source.get_friendly_name())
    return ""


def layer_name(node: ov.Node) -> str:
    """Return the module's path where the name of the weight still tells it, else the node's name."""
    owner, _, parameter = weight(node).rpartition(".")
    if owner and parameter.startswith("weight"):
        return owner
    return fact(node, "originalLayersNames").partition(",")[0] or str(node.get_friendly_name())


def layer_ends(model: ov.Model) -> Iterator[tuple[str, Any]]:
    """Yield the name of each layer and the output that it gives, its bias added.

    A layer is known by its weight, a further use of the same weight by an ordinal.
    """
    count: Counter[str] = Counter()
    for node in model.get_ordered_ops():
        layer = weight_owner(node) if node.get_type_name() in PRODUCTS else ""
        if layer:
            count[layer] += 1
            yield layer if count[layer] == 1 else f"{layer}:{count[layer]}", with_bias(node).output(0)


def weight_owner(node: ov.Node) -> str:
    """Return the path of the module whose weight a product reads, "" if it reads none."""
    source = node.input(1).get_source_output().get_node()
    while source.get_type_name() != "Constant" and source.get_input_size():
        source = source.input(0).get_source_output().get_node()
    name = source.get_friendly_name() if source.get_type_name() == "Constant" else ""
    return str(name).rpartition(".")[0]


def with_bias(node: ov.Node) -> ov.Node:
    """Return the addition of a constant that alone reads a product, or the product."""
    nodes = [port.get_node() for port in node.output(0).get_target_inputs()]
    readers = [each for each in nodes if each.get_type_name() != "ShapeOf"]  # shapes the bias
    reader = readers[0] if len(readers) == 1 else node
    is_bias = reader.get_type_name() == "Add" and any(
        port.get_source_output().get_node().get_type_name() in ("Constant", "Reshape")
        for port in reader.inputs()
    )
    return reader if is_bias else node
