"""Grids of almost 8 bits whose sums of two products fit in 16 bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from pydantic import ValidationError
from torch import Tensor, nn

from mcomp.errors import StageError
from mcomp.measure import saturation
from mcomp.model.model import Model
from mcomp_stages.export.onnx import ExportOnnx
from mcomp_stages.methods.quantization.config import Scheme, WeightChange, Weights
from mcomp_stages.methods.quantization.grid import weight_grid
from mcomp_stages.methods.quantization.learned.assign import with_methods
from mcomp_stages.methods.quantization.pairs import adds_no_pairs, pair_ranges
from mcomp_stages.methods.quantization.scheme import quantizers_for
from mcomp_stages.models.mobilenet_v2 import MobileNetV2Config
from mcomp_stages.quantize.static import QuantizeStatic
from tests.mcomp.training.setting import make_context, small_model

SHORT = Weights(sums="int16")
MOST = 128


def slow_pair_range(row: np.ndarray) -> float:
    """The largest sum of two neighbours of one output channel (I, ...), written out."""
    listed = [
        float(abs(row[(channel, *place)]))
        for place in np.ndindex(row.shape[1:])
        for channel in range(row.shape[0])
    ]
    return max(sum(listed[start : start + 2]) for start in range(0, len(listed), 2))


def codes_of(weight: Tensor, scale: Tensor, up: bool = False) -> Tensor:
    steps = weight / scale.reshape(-1, *[1] * (weight.ndim - 1))
    return (torch.where(steps > 0, steps.ceil(), steps.floor()) if up else steps.round()).clamp(-127, 127)


shapes = st.sampled_from([(3, 5), (2, 4), (4, 3, 3), (3, 4, 2, 3), (2, 1, 3, 3), (2, 3, 2, 2, 2)])


@given(shapes, st.integers(0, 1000))
def test_pairs_are_neighbours_in_the_order_position_then_channel(shape: tuple[int, ...], seed: int) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    slow = [slow_pair_range(row) for row in weight.numpy()]
    assert torch.allclose(pair_ranges(weight, 0), torch.tensor(slow))


@given(shapes, st.integers(0, 1000), st.booleans(), st.floats(1.0, 6.0))
def test_no_pair_of_integers_is_above_128_whichever_way_they_are_rounded(
    shape: tuple[int, ...], seed: int, up: bool, tail: float
) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) ** 3 * tail
    scale, zero_point = weight_grid(weight, SHORT, 0)
    assert not zero_point.any()
    assert pair_ranges(codes_of(weight, scale, up), 0).max() <= MOST


@given(shapes, st.integers(0, 1000))
def test_the_grid_lies_between_those_of_7_and_of_8_bits(shape: tuple[int, ...], seed: int) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    eight, short, seven = (weight_grid(weight, each, 0)[0] for each in (Weights(), SHORT, Weights(bits=7)))
    assert (eight <= short).all()
    assert (short <= seven * (1 + 1e-6)).all()


def test_a_weight_that_stands_alone_keeps_all_8_bits() -> None:
    weight = torch.tensor([[1.0, 0.0, 0.0, -0.9]])
    assert torch.equal(weight_grid(weight, SHORT, 0)[0] <= 1.0 / 126, torch.tensor([True]))


def one_layer(path: Path, codes: np.ndarray, groups: int, shape: tuple[int, ...]) -> Path:
    """Write a convolution of integers on bytes whose sums come out as they are, in float."""
    constants: dict[str, Any] = {"zero": np.uint8(0), "codes": codes.astype(np.int8), "wzero": np.int8(0)}
    nodes = [helper.make_node("ConvInteger", ["x", "codes", "zero", "wzero"], ["sums"], group=groups)]
    if codes.ndim == 2:
        constants["codes"] = np.ascontiguousarray(constants["codes"].T)
        nodes = [helper.make_node("MatMulInteger", ["x", "codes", "zero", "wzero"], ["sums"])]
    graph = helper.make_graph(
        nodes,
        "main",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, list(shape))],
        [helper.make_tensor_value_info("sums", TensorProto.INT32, None)],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def fast_sums(path: Path, inputs: np.ndarray) -> np.ndarray:
    """What the runtime's fast kernels give on this processor, without any option."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": inputs})[0])


LAYERS = {
    "linear": ((24, 33), 1, (5, 33)),
    "1x1": ((24, 32, 1, 1), 1, (1, 32, 6, 6)),
    "3x3, odd channels": ((24, 7, 3, 3), 1, (1, 7, 9, 9)),
    "one channel": ((16, 1, 5, 5), 1, (1, 1, 12, 12)),
    "groups": ((32, 8, 3, 3), 4, (1, 32, 9, 9)),
    "two filters a channel": ((32, 1, 3, 3), 16, (1, 16, 9, 9)),
    "a line": ((16, 12, 5), 1, (1, 12, 20)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_fast_kernels_add_such_integers_exactly(tmp_path: Path, name: str) -> None:
    shape, groups, input_shape = LAYERS[name]
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0)).abs()
    codes = codes_of(weight, weight_grid(weight, SHORT, 0)[0])
    assert codes.max() > 64  # more than 7 bits have
    path = one_layer(tmp_path / "m.onnx", codes.numpy(), groups, input_shape)
    inputs = torch.full(input_shape, 255.0)
    run = nn.functional.linear if len(shape) == 2 else getattr(nn.functional, f"conv{len(shape) - 2}d")
    exact = run(inputs, codes) if len(shape) == 2 else run(inputs, codes, groups=groups)
    assert np.array_equal(fast_sums(path, inputs.numpy().astype(np.uint8)), exact.numpy().astype(np.int32))
    assert not saturation.has_wide_sums(path)


def test_depthwise_convolutions_add_any_weights_exactly(tmp_path: Path) -> None:
    codes = np.full((16, 1, 3, 3), 127)
    path = one_layer(tmp_path / "m.onnx", codes, 16, (1, 16, 9, 9))
    sums = fast_sums(path, np.full((1, 16, 9, 9), 255, np.uint8))
    assert (sums == 255 * 127 * 9).all()
    assert not saturation.has_wide_sums(path)
    assert adds_no_pairs(nn.Conv2d(16, 16, 3, groups=16))
    assert not adds_no_pairs(nn.Conv2d(16, 32, 3, groups=16))
    assert not adds_no_pairs(nn.Linear(4, 4))


def test_a_network_is_served_without_slow_sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saturation, "adds_products_in_32_bits", lambda: False)
    model, context = small_model(), make_context()
    served = {}
    for sums in ("int32", "int16"):
        stage = QuantizeStatic.model_validate({"samples": 32, "weights": {"sums": sums}})
        result = stage.run(model, context).model
        assert result is not None
        folder = tmp_path / sums
        folder.mkdir()
        (file,) = ExportOnnx().run(result, replace(context, folder=folder)).files.values()
        served[sums] = saturation.served_with(file)
    assert served == {"int32": saturation.EXACT_SUMS, "int16": {}}


def test_depthwise_convolutions_keep_the_grid_of_8_bits() -> None:
    spec = MobileNetV2Config(width=0.25, num_classes=3, in_channels=3)
    model = Model(spec.build().eval(), spec)
    sites = quantizers_for(model.module, {"image": torch.rand(2, 3, 32, 32)}, Scheme(weights=SHORT)).weights
    kinds = {name: adds_no_pairs(model.module.get_submodule(name.rpartition(".")[0])) for name in sites}
    assert set(kinds.values()) == {True, False}
    assert {name: site.sums for name, site in sites.items()} == {
        name: "int32" if depthwise else "int16" for name, depthwise in kinds.items()
    }


@pytest.mark.parametrize("fields", [{"bits": 7}, {"symmetric": False}, {"per": "group", "group_size": 4}])
def test_where_it_would_do_nothing_it_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="sums: int16 is for symmetric weights of 8 bits"):
        Weights.model_validate({**fields, "sums": "int16"})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"preset": "openvino"}, "preset openvino: OpenVINO has no operators for sums: int16"),
        ({"activations": {"bits": 16}}, "sums: int16 is for products of bytes"),
    ],
)
def test_other_products_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Scheme.model_validate({**fields, "weights": {"sums": "int16"}})


def test_an_override_with_fewer_bits_leaves_it_behind() -> None:
    assert WeightChange(bits=4).applied(SHORT) == Weights(bits=4)
    assert WeightChange(per="tensor").applied(SHORT).sums == "int16"


def test_learned_steps_do_not_keep_it() -> None:
    model = small_model()
    example = make_context().example
    edit = quantizers_for(model.module, example, Scheme(weights=SHORT))
    with_methods(edit, "minmax", example)
    with pytest.raises(StageError, match="lsq does not keep sums: int16"):
        with_methods(edit, "lsq", example)
