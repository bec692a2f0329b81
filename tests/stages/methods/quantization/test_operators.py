"""The operators against ONNX's own reference, and at the edges of the grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor

from mcomp_stages.methods.quantization.operators import (
    dequantize_linear,
    global_average_pool,
    quantize_linear,
)

VALUES = st.lists(st.floats(-1000, 1000, width=32), min_size=1, max_size=20)
ZERO_POINTS = st.integers(0, 255)


def reference(
    operator: str, x: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, axis: int
) -> np.ndarray:
    node = helper.make_node(operator, ["x", "s", "z"], ["y"], axis=axis)
    inputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in "xsz"]
    outputs = [helper.make_tensor_value_info("y", TensorProto.UNDEFINED, None)]
    graph = helper.make_graph([node], "g", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    (y,) = ReferenceEvaluator(model).run(None, {"x": x, "s": scale, "z": zero_point})
    return y


@given(values=VALUES, scale=st.floats(2.0**-10, 10, width=32), zero_point=ZERO_POINTS)
@settings(max_examples=50, deadline=None)
def test_per_tensor_equals_the_onnx_reference(values: list[float], scale: float, zero_point: int) -> None:
    x, s, z = torch.tensor(values), torch.tensor(scale), torch.tensor(zero_point, dtype=torch.uint8)
    integers = quantize_linear(x, s, z, 0)
    expected = reference("QuantizeLinear", x.numpy(), s.numpy(), z.numpy(), 0)
    assert integers.numpy().tolist() == expected.tolist()
    numbers = reference("DequantizeLinear", expected, s.numpy(), z.numpy(), 0)
    assert dequantize_linear(integers, s, z, 0).numpy().tolist() == numbers.tolist()


@pytest.mark.parametrize("axis", [0, 1])
def test_per_axis_equals_the_onnx_reference(axis: int) -> None:
    x = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0))
    scale = torch.linspace(0.01, 0.05, x.shape[axis])
    zero_point = torch.arange(x.shape[axis], dtype=torch.int8) - 1
    integers = quantize_linear(x, scale, zero_point, axis)
    expected = reference("QuantizeLinear", x.numpy(), scale.numpy(), zero_point.numpy(), axis)
    assert integers.dtype is torch.int8
    assert integers.tolist() == expected.tolist()
    numbers = reference("DequantizeLinear", expected, scale.numpy(), zero_point.numpy(), axis)
    assert dequantize_linear(integers, scale, zero_point, axis).tolist() == numbers.tolist()


@pytest.mark.parametrize("zero_point", [10, 11])
def test_ties_go_to_even_before_the_zero_point_is_added(zero_point: int) -> None:
    integers = quantize_linear(
        torch.tensor([0.5, 1.5, 2.5, -0.5]), torch.tensor(1.0), torch.tensor(zero_point, dtype=torch.uint8), 0
    )
    assert (integers.int() - zero_point).tolist() == [0, 2, 2, 0]


def test_values_beyond_the_grid_saturate() -> None:
    x, one = torch.tensor([-1e9, 1e9]), torch.tensor(1.0)
    assert quantize_linear(x, one, torch.tensor(7, dtype=torch.uint8), 0).tolist() == [0, 255]
    assert quantize_linear(x, one, torch.tensor(7, dtype=torch.int8), 0).tolist() == [-128, 127]


def test_zero_points_above_a_value_do_not_wrap_around() -> None:
    integers, zero_point = torch.tensor([3], dtype=torch.uint8), torch.tensor(200, dtype=torch.uint8)
    assert dequantize_linear(integers, torch.tensor(0.5), zero_point, 0).tolist() == [-98.5]


@pytest.mark.parametrize("operator", [quantize_linear, dequantize_linear, global_average_pool])
def test_operators_are_fit_for_capture(operator: object) -> None:
    arguments: dict[object, tuple[Tensor | int, ...]] = {
        quantize_linear: (torch.randn(2, 3), torch.tensor(0.1), torch.tensor(3, dtype=torch.uint8), 0),
        dequantize_linear: (
            torch.ones(2, dtype=torch.int8),
            torch.ones(2),
            torch.zeros(2, dtype=torch.int8),
            0,
        ),
        global_average_pool: (torch.randn(2, 3, 4, 5),),
    }
    torch.library.opcheck(operator, arguments[operator])
