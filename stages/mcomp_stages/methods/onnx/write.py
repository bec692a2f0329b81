"""A captured graph as an ONNX file whose bytes depend on the graph alone."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import onnx
import torch
from onnxscript.optimizer import optimize_ir
from torch import Tensor
from torch.fx import GraphModule
from torch.onnx.errors import OnnxExporterError

from mcomp.model.example import dynamic_shapes
from mcomp_stages.methods.onnx.folding import may_fold
from mcomp_stages.methods.onnx.lacking import lacking_operators
from mcomp_stages.methods.onnx.pack import pack_integers
from mcomp_stages.methods.onnx.translate import TRANSLATIONS
from mcomp_stages.methods.onnx.weights import TRANSLATIONS as WEIGHT_TRANSLATIONS

# What protobuf can hold in one message, less the room for the graph itself.
LARGEST_WEIGHTS = 2**31 - 2**24
LAYERS = ("Conv", "Gemm", "MatMul")
FUSED = ("BatchNormalization", "Relu", "Clip")


def write_onnx(
    graph_module: GraphModule,
    example: Mapping[str, Tensor],
    path: Path,
    *,
    opset: int,
    metadata: Mapping[str, str] | None = None,
) -> tuple[Path, ...]:
    """Write a graph in inference mode for any batch size, and any of the sizes that vary in an `Example`.

    Return the files, `path` first. `example` maps input names to tensors of at least two samples; inputs keep
    these names, the output is called `output`. Weights beyond 2 GB go to a second file beside the first.
    `metadata` can be read in every runtime. Raises StageError naming operators that ONNX lacks, with their
    layers.
    """
    with quiet_exporter():
        try:
            program = torch.onnx.export(
                graph_module,
                (),
                kwargs=dict(example),
                dynamo=True,
                opset_version=opset,
                input_names=list(example),
                output_names=["output"],
                dynamic_shapes=dynamic_shapes(example),
                custom_translation_table=TRANSLATIONS | WEIGHT_TRANSLATIONS,
                verbose=False,
                optimize=False,
            )
        except OnnxExporterError as error:
            raise lacking_operators(graph_module, error) from error
        assert program is not None
        optimize_ir(program.model, should_fold=may_fold)
    model = program.model_proto
    pack_integers(model.graph)
    forget_origins(model)
    onnx.helper.set_model_props(model, dict(metadata or {}))
    name_layers(model.graph)
    part_zero_points(model.graph)
    files = save(model, path)
    onnx.checker.check_model(path)
    return files


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Silence what the exporter says about itself and nobody can act on."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    with warnings.catch_warnings():
        # torch 2.13 copies its own tree specs in a way that it deprecates.
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
        # Sizes of one name in several inputs are one size, as they should be.
        warnings.filterwarnings(
            "ignore", "# The axis name: .* will not be used, since it shares", UserWarning
        )
        logger.setLevel(logging.ERROR)  # "torchvision is not installed": it is not needed
        try:
            yield
        finally:
            logger.setLevel(level)


def forget_origins(model: onnx.ModelProto) -> None:
    """Drop what tells where the model was made (stack traces, names of Python objects), and say who made it.

    Shapes of intermediate values go too: every runtime infers them.
    """
    model.producer_name, model.producer_version = "mcomp", version("mcomp")
    model.doc_string = ""
    graph = model.graph
    graph.name, graph.doc_string = "main", ""
    del model.metadata_props[:], graph.metadata_props[:], graph.value_info[:]
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        part.doc_string = ""
        del part.metadata_props[:]


def name_layers(graph: onnx.GraphProto) -> None:
    """Call every convolution and linear by the module path of its weight, and what it gives after it.

    The runtime's own reports use these names; in its blocked layout it knows a layer by its output alone.
    """
    producer = {name: node for node in graph.node for name in node.output}
    initializers = {initializer.name for initializer in graph.initializer}
    count: Counter[str] = Counter()
    renamed: dict[str, str] = {}
    for node in graph.node:
        weight = node.input[1] if node.op_type in LAYERS else ""
        while weight in producer:
            weight = producer[weight].input[0]
        if weight in initializers:
            layer = weight.rpartition(".")[0] or weight
            count[layer] += 1
            node.name = layer if count[layer] == 1 else f"{layer}:{count[layer]}"
            renamed |= {fused.output[0]: f"{node.name}:{fused.op_type}" for fused in fused_nodes(graph, node)}
    rename_values(graph, renamed)


def fused_nodes(graph: onnx.GraphProto, layer: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """Yield a layer and the norm and activation that run with it."""
    yield layer
    readers = [node for node in graph.node if layer.output[0] in node.input]
    if len(readers) == 1 and readers[0].op_type in FUSED:
        yield from fused_nodes(graph, readers[0])


def rename_values(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Rename values inside a graph, in place; its outputs keep their names."""
    outputs = {output.name for output in graph.output}
    inner = {old: new for old, new in names.items() if old not in outputs}
    for node in graph.node:
        for values in (node.input, node.output):
            values[:] = [inner.get(value, value) for value in values]


def part_zero_points(graph: onnx.GraphProto) -> None:
    """Give each int8 weight a zero point of its own, where the exporter shares those of equal layers.

    ONNX Runtime 1.32 refuses shared ones with `session.x64quantprecision`: it makes uint8 weights of int8
    ones, and a zero point under the same new name for each.
    """
    initializers = {initializer.name: initializer for initializer in graph.initializer}
    used: set[str] = set()
    for node in graph.node:
        weight = initializers.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if weight is None or weight.data_type != onnx.TensorProto.INT8:
            continue
        if node.input[2] in used:
            own = graph.initializer.add()
            own.CopyFrom(initializers[node.input[2]])
            own.name = f"{weight.name}_zero_point"
            node.input[2] = own.name
        used.add(node.input[2])


def save(model: onnx.ModelProto, path: Path) -> tuple[Path, ...]:
    """Write the file; external data only where one message cannot hold the weights."""
    if sum(len(initializer.raw_data) for initializer in model.graph.initializer) > LARGEST_WEIGHTS:
        data = path.with_name(f"{path.name}.data")
        onnx.save_model(model, path, save_as_external_data=True, location=data.name)
        return path, data
    path.write_bytes(model.SerializeToString(deterministic=True))
    return (path,)
