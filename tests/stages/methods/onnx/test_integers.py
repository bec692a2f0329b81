"""The runtime's own arithmetic: a file gives what the graph with integer sums gives, to the last bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.fx import GraphModule

from mcomp.measure.runtimes.onnx import OnnxSession
from mcomp_stages.methods.export.graph import served_graph
from mcomp_stages.methods.onnx.integers import Grid, RoundedAddition, RoundedSum, with_integer_sums
from mcomp_stages.methods.onnx.write import write_onnx
from mcomp_stages.methods.quantization.config import Scheme
from tests.stages.methods.quantization.nets import (
    ChainNet,
    GatedNet,
    LineNet,
    ResidualNet,
    SequenceNet,
    float_model,
    pictures,
    quantized_model,
)

EXAMPLE = pictures(2)


def served(net: type[nn.Module], activation_bits: int = 8) -> GraphModule:
    widths = {"weights": {"bits": 7}, "activations": {"bits": activation_bits}}
    model = quantized_model(float_model(net), scheme=Scheme.model_validate(widths))
    return served_graph(model, EXAMPLE)


def parts(graph_module: GraphModule, kind: type[nn.Module]) -> list[nn.Module]:
    return [part for part in graph_module.modules() if isinstance(part, kind)]


@pytest.mark.parametrize(
    ("net", "sums", "additions"), [(ResidualNet, 3, 1), (ChainNet, 3, 1), (LineNet, 2, 1)]
)
def test_a_file_gives_what_integer_sums_give(
    net: type[nn.Module], sums: int, additions: int, tmp_path: Path
) -> None:
    graph = served(net)
    write_onnx(graph, EXAMPLE, tmp_path / "model.onnx", opset=21)
    rounding, many = with_integer_sums(graph), pictures(200)
    assert (len(parts(rounding, RoundedSum)), len(parts(rounding, RoundedAddition))) == (sums, additions)
    found = OnnxSession(tmp_path / "model.onnx").run({"image": many["image"].numpy()})
    with torch.no_grad():
        expected = rounding(**many).numpy()
    # The classifier gives floats: one rounding of a product is left.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("net", [ResidualNet, ChainNet, GatedNet, SequenceNet])
def test_both_arithmetics_are_near(net: type[nn.Module]) -> None:
    graph = served(net)
    with torch.no_grad():
        left, right = graph(**pictures()), with_integer_sums(graph)(**pictures())
    assert (left - right).abs().median() < 0.01 * left.abs().max()


def test_the_graph_itself_stays_as_it_is() -> None:
    graph = served(ResidualNet)
    before = graph.code
    with_integer_sums(graph)
    assert graph.code == before


def test_wider_activations_stay_as_they_are() -> None:
    assert not parts(with_integer_sums(served(ResidualNet, activation_bits=16)), RoundedSum)


def slow_sum(row: list[int], weight: list[int], bias: int, factor: np.float32, zero: int) -> int:
    """Python's integers, one product of floats, half to even, then the ends of a byte."""
    total = sum(left * right for left, right in zip(row, weight, strict=True)) + bias
    return int(min(max(np.rint(np.float32(total) * factor) + zero, 0), 255))


numbers = st.integers(0, 255)


@given(st.data(), st.integers(1, 40), st.integers(0, 255), st.integers(0, 255), st.floats(1e-5, 1e-2))
def test_a_sum_is_rounded_once(
    draw: st.DataObject, width: int, x_zero: int, y_zero: int, scale: float
) -> None:
    row = draw.draw(st.lists(numbers, min_size=width, max_size=width))
    weight = draw.draw(st.lists(st.integers(-127, 127), min_size=width, max_size=width))
    bias = draw.draw(st.integers(-(2**20), 2**20))
    layer = sum_of(weight, bias, x_zero, y_zero, scale)
    found = layer(torch.tensor([row], dtype=torch.uint8))
    centred = [value - x_zero for value in row]
    assert found.item() == slow_sum(centred, weight, bias, np.float32(scale), y_zero)


def sum_of(weight: list[int], bias: int, x_zero: int, y_zero: int, scale: float) -> RoundedSum:
    """Return a linear with one output; its factor is `scale`."""
    graph = torch.fx.Graph()
    x = graph.placeholder("x")
    linear = graph.call_function(torch.ops.aten.linear.default, (x, x, x))
    one = torch.tensor(1.0)
    grids = [
        Grid(x, torch.tensor(scale), torch.tensor(x_zero, dtype=torch.uint8)),
        Grid(x, torch.ones(1), torch.zeros(1, dtype=torch.int8)),
        Grid(x, one, torch.tensor(y_zero, dtype=torch.uint8)),
    ]
    return RoundedSum(linear, None, torch.tensor([weight], dtype=torch.int8), torch.tensor([bias]), grids)


@given(numbers, numbers)
def test_an_addition_is_that_of_the_numbers(left: int, right: int) -> None:
    graph = torch.fx.Graph()
    node = graph.placeholder("x")

    def grid(scale: float, zero: int) -> Grid:
        return Grid(node, torch.tensor(scale), torch.tensor(zero, dtype=torch.uint8))

    addition = RoundedAddition(grid(0.5, 10), grid(0.25, 128), grid(1.0, 60))

    def byte(value: int) -> Tensor:
        return torch.tensor([value], dtype=torch.uint8)

    expected = np.clip(np.rint((left - 10) * 0.5 + (right - 128) * 0.25 + 60), 0, 255)
    assert addition(byte(left), byte(right)).item() == expected


def runtime_addition(scales: np.ndarray, zeros: np.ndarray, pairs: list[np.ndarray]) -> np.ndarray:
    """What the kernel gives for pairs of bytes; scales and zero points are of left, right and sum."""
    names = ["a", "sa", "za", "b", "sb", "zb", "sc", "zc"]
    constants = dict(zip(("sa", "sb", "sc"), scales, strict=True)) | dict(
        zip(("za", "zb", "zc"), zeros, strict=True)
    )
    graph = helper.make_graph(
        [helper.make_node("QLinearAdd", names, ["c"], domain="com.microsoft")],
        "main",
        [helper.make_tensor_value_info(name, TensorProto.UINT8, [len(pairs[0])]) for name in "ab"],
        [helper.make_tensor_value_info("c", TensorProto.UINT8, None)],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    file = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, dict(zip("ab", pairs, strict=True)))[0])


def test_additions_of_all_pairs_of_bytes_are_the_runtimes() -> None:
    # In one grid of twelve a sum of bytes lies so near the middle of two integers that every rounding counts.
    draw = np.random.default_rng(0)
    pairs = [each.ravel().astype(np.uint8) for each in np.meshgrid(np.arange(256), np.arange(256))]
    node = torch.fx.Graph().placeholder("x")
    for _ in range(60):
        scales = draw.uniform(0.01, 0.1, 3).astype(np.float32)
        zeros = draw.integers(0, 256, 3).astype(np.uint8)
        grids = [
            Grid(node, torch.tensor(scale), torch.tensor(zero))
            for scale, zero in zip(scales, zeros, strict=True)
        ]
        found = RoundedAddition(*grids)(*map(torch.from_numpy, pairs))
        assert np.array_equal(found.numpy(), runtime_addition(scales, zeros, pairs))
