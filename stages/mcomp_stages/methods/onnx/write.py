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
from torch import Tensor
from torch.fx import GraphModule

from mcomp_stages.methods.onnx.translate import TRANSLATIONS

# What protobuf can hold in one message, less the room for the graph itself.
LARGEST_WEIGHTS = 2**31 - 2**24
LAYERS = ("Conv", "Gemm", "MatMul")


def write_onnx(
    graph_module: GraphModule,
    example: Mapping[str, Tensor],
    path: Path,
    *,
    opset: int,
    dynamic_batch: bool = True,
) -> None:
    """Write a graph in inference mode to `path`; inputs keep their names, the output is called `output`.

    `example` maps input names to tensors of at least two samples. Weights beyond 2 GB go to `<path>.data`.
    """
    batch = torch.export.Dim("batch") if dynamic_batch else None
    with quiet_exporter():
        program = torch.onnx.export(
            graph_module,
            (),
            kwargs=dict(example),
            dynamo=True,
            opset_version=opset,
            input_names=list(example),
            output_names=["output"],
            dynamic_shapes={name: {0: batch} if batch else None for name in example},
            custom_translation_table=dict(TRANSLATIONS),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    forget_origins(model)
    name_layers(model.graph)
    save(model, path)
    onnx.checker.check_model(path)


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Silence what the exporter says about itself and nobody can act on."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    with warnings.catch_warnings():
        # torch 2.13 copies its own tree specs in a way that it deprecates.
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
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
    """Call every convolution and linear by the module path of its weight, as the runtime's reports will."""
    producer = {name: node for node in graph.node for name in node.output}
    initializers = {initializer.name for initializer in graph.initializer}
    count: Counter[str] = Counter()
    for node in graph.node:
        if node.op_type not in LAYERS:
            continue
        weight = node.input[1]
        while weight in producer:
            weight = producer[weight].input[0]
        if weight in initializers:
            layer = weight.removeprefix("integers.").rpartition(".")[0] or weight
            count[layer] += 1
            node.name = layer if count[layer] == 1 else f"{layer}:{count[layer]}"


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write the file; external data only where one message cannot hold the weights."""
    num_bytes = sum(len(initializer.raw_data) for initializer in model.graph.initializer)
    external = num_bytes > LARGEST_WEIGHTS
    if external:
        onnx.save_model(model, path, save_as_external_data=True, location=f"{path.name}.data")
    else:
        path.write_bytes(model.SerializeToString(deterministic=True))
