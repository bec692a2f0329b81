from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mcomp.errors import StageError
from mcomp.measure import saturation
from mcomp.measure.runtimes.onnx import OnnxSession

BYTES = 255


def integer_file(path: Path, largest_weight: int) -> Path:
    """Write a linear of one weight in int8, repeated, behind u8 activations."""
    weights = np.full((2, 64), largest_weight, np.int8)
    constants = {
        "step": np.float32(1),
        "zero": np.uint8(0),
        "weights": weights,
        "scales": np.ones(2, np.float32),
        "zeros": np.zeros(2, np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["weights", "scales", "zeros"], ["w"], axis=0),
        helper.make_node("Gemm", ["d", "w"], ["output"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "main",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n", 2])],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


@pytest.mark.parametrize(("largest", "wide"), [(127, True), (-65, True), (64, False), (0, False)])
def test_neighbours_beyond_128_are_wide(tmp_path: Path, largest: int, wide: bool) -> None:
    assert saturation.has_wide_sums(integer_file(tmp_path / "m.onnx", largest)) is wide


@pytest.mark.parametrize(
    ("in_32_bits", "largest", "options"), [(True, 127, 0), (False, 127, 1), (False, 63, 0)]
)
def test_options_are_asked_for_where_sums_overflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_32_bits: bool, largest: int, options: int
) -> None:
    monkeypatch.setattr(saturation, "adds_products_in_32_bits", lambda: in_32_bits)
    assert len(saturation.served_with(integer_file(tmp_path / "m.onnx", largest))) == options


@pytest.mark.parametrize("largest", [127, -127, 63])
def test_the_largest_sums_of_products_are_exact_on_any_processor(tmp_path: Path, largest: int) -> None:
    session = OnnxSession(integer_file(tmp_path / "m.onnx", largest))
    output = session.run({"x": np.full((3, 64), BYTES, np.float32)})
    assert (output == BYTES * largest * 64).all()


def test_a_file_that_cannot_be_read_is_refused_by_the_runtime(tmp_path: Path) -> None:
    damaged = tmp_path / "m.onnx"
    damaged.write_bytes(integer_file(damaged, 127).read_bytes()[:-40])
    assert saturation.has_wide_sums(damaged)
    with pytest.raises(StageError, match=r"ONNX Runtime cannot load m\.onnx"):
        OnnxSession(damaged)


@pytest.mark.parametrize(("operator", "wide"), [("Transpose", True), ("Identity", True), ("Gather", False)])
def test_what_becomes_of_a_weight_behind_another_operator_is_not_looked_into(
    tmp_path: Path, operator: str, wide: bool
) -> None:
    path = integer_file(tmp_path / "m.onnx", 127)
    model = onnx.load(path)
    (gemm,) = (node for node in model.graph.node if node.op_type == "Gemm")
    gemm.input[1] = "turned"
    model.graph.node.append(helper.make_node(operator, ["w"], ["turned"]))
    onnx.save(model, path)
    assert saturation.has_wide_sums(path) is wide
