"""Sums of byte products that overflow in ONNX Runtime on processors without VNNI. Free of torch.

There its fast kernels add two products of an unsigned and a signed byte in 16 bits, which saturate from
255 * (|a| + |b|) = 32768 on: weights beyond 64 can give wrong sums, without a word. A session option trades
these kernels for exact ones of about the speed of float; weights of 7 bits keep the fast ones.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from mcomp.measure.machine import adds_products_in_32_bits

LARGEST_SAFE = 64  # as the runtime itself decides for which layers the option matters
EXACT_SUMS = {"session.x64quantprecision": "1"}


def exact_sums() -> dict[str, str]:
    """Return the options of a session that computes what the file says, on this processor."""
    return {} if adds_products_in_32_bits() else EXACT_SUMS


def served_with(file: Path) -> dict[str, str]:
    """Return the session options without which a file gives wrong sums on this processor."""
    options = exact_sums()
    return options if options and has_wide_weights(file) else {}


def has_wide_weights(file: Path) -> bool:
    """Whether a file has int8 weights beyond 64."""
    graph = onnx.load(file).graph
    integers = [tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT8]
    return any(
        np.abs(onnx.numpy_helper.to_array(each).astype(int)).max(initial=0) > LARGEST_SAFE
        for each in integers
    )
