"""Sums of byte products that overflow in ONNX Runtime on processors without VNNI. Free of torch.

There its fast kernels add two products of an unsigned and a signed byte in 16 bits, which saturate from
255 * (|a| + |b|) = 32768 on: neighbouring weights that are larger together than 128 can give wrong sums,
without a word. A session option trades these kernels for exact ones of about the speed of float; weights of 7
bits, or of 8 with `sums: int16`, keep the fast ones. Depthwise convolutions are computed without such sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, numpy_helper

from mcomp.measure.machine import adds_products_in_32_bits

LARGEST_SUM = 128
EXACT_SUMS = {"session.x64quantprecision": "1"}
CONVOLUTIONS = {"Conv", "QLinearConv", "ConvInteger"}
PRODUCTS = {"Gemm", "QGemm", "MatMul", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat"}
PRODUCTS |= {"DynamicQuantizeMatMul"}
# They read integers and multiply none of them with another byte.
HARMLESS = {"Gather", "GatherElements", "Add", "Mul", "MatMulNBits"}


def served_with(file: Path) -> dict[str, str]:
    """Return the session options without which a file gives wrong sums on this processor."""
    return {} if adds_products_in_32_bits() or not has_wide_sums(file) else EXACT_SUMS


def has_wide_sums(file: Path) -> bool:
    """Whether a file has int8 weights whose products with bytes, two by two, leave 16 bits.

    One that cannot be read might have: slow sums are never wrong, and the runtime says what is wrong with it.
    """
    try:
        graph = onnx.load(file, load_external_data=False).graph
        return any(is_wide(node, weight) for node, weight in multiplied(graph, file.parent))
    except Exception:  # protobuf's errors, and what the parts of a damaged file raise, have no common base
        return True


def multiplied(graph: GraphProto, folder: Path) -> Iterator[tuple[NodeProto, np.ndarray]]:
    """Yield each node that reads int8 weights, or what they stand for, with the integers."""
    stored = {each.name: each for each in graph.initializer if each.data_type == TensorProto.INT8}
    names = {name: name for name in stored}
    names |= {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in stored
    }
    for node in graph.node:
        if node.op_type != "DequantizeLinear":
            for name in filter(names.__contains__, node.input):
                integers = numpy_helper.to_array(stored[names[name]], str(folder))
                yield node, integers.astype(np.int32)


def is_wide(node: NodeProto, weight: np.ndarray) -> bool:
    """Whether an operator adds products with its weight that leave 16 bits.

    What one that we do not know does with it (turn it around for a product, say) is not looked into: there no
    weight may be beyond half of the largest sum.
    """
    attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    if weight.ndim < 2 or node.op_type in HARMLESS:
        return False
    if node.op_type in CONVOLUTIONS:
        groups = attributes.get("group", 1)
        if groups > 1 and weight.shape[1] == 1 and weight.shape[0] == groups:
            return False
        rows = np.moveaxis(weight, 1, -1).reshape(len(weight), -1)
    elif node.op_type in PRODUCTS:
        # (..., K, N); a Gemm may have it the other way round.
        flipped = weight if attributes.get("transB", 0) else np.swapaxes(weight, -1, -2)
        rows = flipped.reshape(-1, flipped.shape[-1])
    else:
        return bool(np.abs(weight).max(initial=0) > LARGEST_SUM // 2)
    return bool(largest_pair(rows) > LARGEST_SUM)


def largest_pair(rows: np.ndarray) -> int:
    """Return the largest |a| + |b| of two neighbours in rows (N, K); what is left over stands alone."""
    padded = np.pad(np.abs(rows), ((0, 0), (0, rows.shape[1] % 2)))
    return int(padded.reshape(len(rows), -1, 2).sum(axis=2).max(initial=0))
