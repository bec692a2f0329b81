"""Integers of 2 bits and of 1: four and eight in a byte, unpacked by the runtime, multiplied as integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from mcomp.measure.runtimes.onnx import OnnxSession
from mcomp_stages.methods.onnx.proof import require_integers
from mcomp_stages.methods.onnx.streams import STREAMS, streamed, unpacking
from tests.stages.methods.onnx.test_pack import EXAMPLE, stored, written
from tests.stages.methods.quantization.nets import pictures

RANGES = {"int2": (-2, 1), "uint2": (0, 3), "int1": (-1, 1)}


def run(kind: str, values: np.ndarray, zero_point: np.ndarray | None) -> np.ndarray:
    """Unpack in ONNX Runtime, without its optimisations."""
    graph = onnx.GraphProto(name="unpack")
    stream = STREAMS[kind]
    graph.initializer.append(streamed(values, stream, "w"))
    graph.node.extend(unpacking(graph, "w", "w", stream, values.shape, zero_point))
    is_code = kind == "uint2" and zero_point is None
    element = TensorProto.UINT8 if is_code else TensorProto.INT8
    graph.output.append(helper.make_tensor_value_info("w:integers", element, values.shape))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {})
    return np.asarray(found)


@settings(deadline=None, max_examples=20)
@given(
    kind=st.sampled_from(sorted(STREAMS)),
    rows=st.integers(1, 3),
    columns=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_what_was_packed_comes_back_in_the_runtime(kind: str, rows: int, columns: int, seed: int) -> None:
    low, high = RANGES[kind]
    values = np.random.default_rng(seed).integers(low, high + 1, (rows, columns))
    if kind == "int1":
        values[values == 0] = 1
    tensor = streamed(values, STREAMS[kind], "w")
    assert len(tensor.raw_data) == -(-values.size * STREAMS[kind].bits // 8)
    assert run(kind, values, None).tolist() == values.tolist()


def test_codes_move_to_around_their_zero_point() -> None:
    values, zero = np.array([[0, 3, 1], [2, 2, 0]]), np.array([[1], [2]])
    assert run("uint2", values, zero).tolist() == (values - zero).tolist()


@pytest.mark.parametrize("symmetric", [True, False])
def test_weights_of_2_bits_are_a_quarter_of_a_byte_each_and_run_in_integers(
    symmetric: bool, tmp_path: Path
) -> None:
    scheme = {
        "weights": {"bits": 2, "symmetric": symmetric},
        "overrides": [{"layer": "last", "weights": {"bits": 8}}],
    }
    path, model = written(tmp_path, **scheme)
    weight = stored(path)[f"conv.weight_{'int2' if symmetric else 'uint2'}_widened"]
    assert len(weight.raw_data) * 4 == model.module.get_parameter("conv.weight").numel()
    assert {"BitShift", "BitwiseAnd"} <= {node.op_type for node in onnx.load(path).graph.node}
    found = require_integers(path, model)
    assert (found.int8, found.float) == (4, 0)


@pytest.mark.parametrize("symmetric", [True, False])
def test_2_bits_in_groups_are_unpacked_for_float_products(symmetric: bool, tmp_path: Path) -> None:
    grid = {"bits": 2, "symmetric": symmetric, "per": "group", "group_size": 8}
    path, model = written(tmp_path, overrides=[{"type": "Linear", "weights": grid}])
    served = OnnxSession(path).run({name: value.numpy() for name, value in pictures().items()})
    with torch.no_grad():
        expected = model.inference_module(EXAMPLE)(**pictures())
    assert np.abs(served - expected.numpy()).max() < 1e-3 * expected.abs().max().item()
