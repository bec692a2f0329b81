from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from mcomp.errors import StageError
from mcomp.measure.census import census
from tests.mcomp.measure.files import attention_scores, float_classifier, half_quantized_classifier, save


def test_a_float_file_has_no_layer_in_integers(tmp_path: Path) -> None:
    counted = census(float_classifier(tmp_path / "m.onnx"), tmp_path)
    assert (counted.int8, counted.float) == (0, 2)
    assert "fc" in counted.float_layers
    assert not any(name.endswith("_nchwc") for name in counted.float_layers)


def test_a_fused_convolution_counts_as_int8_and_the_layer_left_in_float_is_named(tmp_path: Path) -> None:
    counted = census(half_quantized_classifier(tmp_path / "m.onnx"), tmp_path)
    assert (counted.int8, counted.float) == (1, 1)
    assert counted.float_layers == ("fc",)
    assert counted.by_type["QLinearConv"] == 1
    assert counted.by_type["Gemm"] == 1
    assert "Conv" not in counted.by_type


def test_the_islands_around_a_float_layer_are_counted(tmp_path: Path) -> None:
    counted = census(half_quantized_classifier(tmp_path / "m.onnx"), tmp_path)
    assert counted.by_type["DequantizeLinear"] == 1
    assert counted.by_type["QuantizeLinear"] == 1


def test_an_integer_convolution_over_few_channels_is_named_and_a_float_one_is_not(tmp_path: Path) -> None:
    assert census(half_quantized_classifier(tmp_path / "q.onnx"), tmp_path).narrow_layers == ("conv",)
    assert census(float_classifier(tmp_path / "f.onnx"), tmp_path).narrow_layers == ()


def test_channels_that_fill_no_register_and_layers_of_zeros_are_named(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    weights = {
        "odd.weight": draw.normal(size=(13, 1, 3, 3)),
        "even.weight": draw.normal(size=(16, 13, 1, 1)) * (draw.random((16, 13, 1, 1)) > 0.8),
    }
    nodes = [
        helper.make_node("Conv", ["x", "odd.weight"], ["h"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Conv", ["r", "even.weight"], ["y"]),
    ]
    tensors = {name: value.astype(np.float32) for name, value in weights.items()}
    counted = census(save(tmp_path / "m.onnx", nodes, tensors, (1, 8, 8)), tmp_path)
    assert counted.unrounded_layers == ("odd",)
    assert counted.sparse_layers == ("even",)


@pytest.mark.parametrize(("zeros", "named"), [(0.8, ("conv",)), (0.2, ())])
def test_zeros_are_found_among_integers_that_the_runtime_moved(
    zeros: float, named: tuple[str, ...], tmp_path: Path
) -> None:
    counted = census(half_quantized_classifier(tmp_path / "m.onnx", zeros), tmp_path)
    assert counted.int8 == 1
    assert counted.sparse_layers == named


def test_a_product_of_two_activations_is_no_layer(tmp_path: Path) -> None:
    counted = census(attention_scores(tmp_path / "m.onnx"), tmp_path)
    assert (counted.int8, counted.float) == (0, 1)
    assert counted.float_layers == ("proj",)


def test_a_file_that_is_no_model_is_a_stage_error(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"not a model")
    with pytest.raises(StageError, match="cannot load"):
        census(tmp_path / "m.onnx", tmp_path)


def test_what_the_runtime_writes_is_in_the_given_folder_and_does_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "not there"))
    file, scratch = float_classifier(tmp_path / "m.onnx"), tmp_path / "scratch"
    scratch.mkdir()
    census(file, scratch)
    assert list(scratch.iterdir()) == []
