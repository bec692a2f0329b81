"""Weights of 4 bits: two in a byte, and the runtime multiplies them as if they were not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper

from mcomp.measure.runtimes.onnx import OnnxSession
from mcomp.model.model import Model
from mcomp_stages.methods.export.graph import served_graph
from mcomp_stages.methods.onnx.pack import TYPES, packed
from mcomp_stages.methods.onnx.proof import require_integers
from mcomp_stages.methods.onnx.write import write_onnx
from mcomp_stages.methods.quantization.config import Scheme
from tests.stages.methods.quantization.nets import ResidualNet, float_model, pictures, quantized_model

EXAMPLE = pictures(2)
LINEARS_IN_GROUPS = {"type": "Linear", "weights": {"per": "group", "group_size": 8}}


def written(folder: Path, **scheme: Any) -> tuple[Path, Model]:
    model = quantized_model(float_model(ResidualNet), scheme=Scheme.model_validate(scheme))
    (path,) = write_onnx(served_graph(model, EXAMPLE), EXAMPLE, folder / "model.onnx", opset=21)
    return path, model


def stored(path: Path) -> dict[str, TensorProto]:
    return {tensor.name: tensor for tensor in onnx.load(path).graph.initializer}


@given(values=st.lists(st.integers(-8, 7), min_size=1, max_size=9), signed=st.booleans())
def test_packed_integers_are_read_back_by_onnx(values: list[int], signed: bool) -> None:
    numbers = np.array(values if signed else [value + 8 for value in values])
    container = numbers.astype(np.int8 if signed else np.uint8)
    tensor = packed(container, TYPES["int4" if signed else "uint4"], "w")
    assert len(tensor.raw_data) == (len(values) + 1) // 2
    assert numpy_helper.to_array(tensor).astype(int).tolist() == numbers.tolist()


@pytest.mark.parametrize(("symmetric", "kind"), [(True, "int4"), (False, "uint4")])
def test_a_weight_of_4_bits_is_half_a_byte_each_and_runs_in_integers(
    symmetric: bool, kind: str, tmp_path: Path
) -> None:
    path, model = written(tmp_path, weights={"bits": 4, "symmetric": symmetric})
    weight = stored(path)[f"conv.weight_{kind}_widened"]
    assert weight.data_type == TYPES[kind]
    assert len(weight.raw_data) * 2 == model.module.get_parameter("conv.weight").numel()
    found = require_integers(path, model)
    assert (found.int8, found.float) == (4, 0)


@pytest.mark.parametrize(
    "scheme",
    [
        {"weights": {"bits": 4}},
        {"weights": {"bits": 3, "symmetric": False}},
        {"weights": {"bits": 4}, "overrides": [LINEARS_IN_GROUPS]},
        {"weights": {"bits": 4, "symmetric": False}, "overrides": [LINEARS_IN_GROUPS]},
    ],
)
def test_the_file_gives_what_the_model_gives(scheme: dict[str, Any], tmp_path: Path) -> None:
    path, model = written(tmp_path, **scheme)
    inputs = pictures(8)
    with torch.no_grad():
        expected = model.inference_module(EXAMPLE)(**inputs).numpy()
    served = OnnxSession(path).run({name: value.numpy() for name, value in inputs.items()})
    assert np.abs(served - expected).max() < 0.02 * np.abs(expected).max()


def test_weights_in_groups_keep_their_type_up_to_the_product(tmp_path: Path) -> None:
    path, model = written(tmp_path, weights={"bits": 4}, overrides=[LINEARS_IN_GROUPS])
    graph = onnx.load(path).graph
    reader = next(node for node in graph.node if "fc.weight_int4" in node.input)
    attributes = {attribute.name: attribute.i for attribute in reader.attribute}
    assert reader.op_type == "DequantizeLinear"
    assert (attributes["axis"], attributes["block_size"]) == (1, 8)
    assert list(stored(path)["fc.weight_scale"].dims) == [10, 2]
    assert require_integers(path, model).float_layers == ("fc",)


def test_nothing_that_is_not_read_is_stored(tmp_path: Path) -> None:
    path, _ = written(tmp_path, weights={"bits": 4, "symmetric": False})
    read = {name for node in onnx.load(path).graph.node for name in node.input}
    assert set(stored(path)) <= read
