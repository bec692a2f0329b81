# K = numbers of a row
"""Embeddings whose rows are kept in bytes: only what is looked up becomes floats."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

import mcomp_stages.methods.quantization.weights.operators  # noqa: F401  registers torch.ops.mcomp
from mcomp.model.graph import attribute
from mcomp_stages.methods.quantization.canonical import replace
from mcomp_stages.methods.quantization.fake_quantize import WeightQuantizer
from mcomp_stages.methods.quantization.layers import buffer, called, free_prefix

aten, mcomp = torch.ops.aten, torch.ops.mcomp


MIDDLE = 128  # the byte that stands for zero


def is_quantized_table(graph_module: GraphModule, node: Node) -> bool:
    """Whether a call looks up rows of a quantized weight."""
    return node.target is aten.embedding.default and isinstance(
        called(graph_module, node.args[0]), WeightQuantizer
    )


def fold_table(graph_module: GraphModule, node: Node) -> None:
    """Replace a lookup by one of bytes and one of scales."""
    quantized, indices = node.args[:2]
    assert isinstance(quantized, Node)
    quantizer, parameter = called(graph_module, quantized), quantized.args[0]
    assert isinstance(quantizer, WeightQuantizer)
    assert isinstance(parameter, Node)
    found = quantizer.integers(attribute(graph_module, str(parameter.target)))
    prefix = free_prefix(graph_module, str(parameter.target))
    codes = (found.integers.to(torch.int16) + MIDDLE).to(torch.uint8)
    with graph_module.graph.inserting_before(node):
        parts = [
            buffer(graph_module, f"{prefix}weight_codes", codes),
            buffer(graph_module, f"{prefix}weight_scale", found.scale.unsqueeze(1)),
        ]
        rows = [call(graph_module, aten.embedding.default, part, indices) for part in parts]
        columns = codes.shape[1]
        numbers = call(graph_module, mcomp.unpack_rows.default, *rows, None, 8, columns, columns)
    numbers.meta = dict(node.meta)
    replace(node, numbers)


def call(graph_module: GraphModule, target: Any, *args: Any) -> Node:
    """Return a new call."""
    return graph_module.graph.call_function(target, args)
