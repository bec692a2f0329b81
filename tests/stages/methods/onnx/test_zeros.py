"""Zeros of masks are found again in the file, in float and in integers, and counted."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp.stage import StageResult
from mcomp_stages.export.onnx import ExportOnnx
from mcomp_stages.methods.onnx.zeros import compressed_size, zeros_in_file, zeros_where_masked
from mcomp_stages.prune.unstructured import PruneUnstructured
from mcomp_stages.quantize.qat import QuantizeQat
from tests.stages.prune.setting import context_in, model_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("zeros")


@pytest.fixture(scope="module")
def sparse(folder: Path) -> Model:
    stage = PruneUnstructured.model_validate({"sparsity": 0.9})
    result = stage.run(model_of("vgg"), context_in(folder)).model
    assert result is not None
    return result


def masked(model: Model) -> int:
    return sum(int((~mask).sum()) for name, mask in model.state.items() if name.startswith("masks."))


@pytest.fixture(scope="module")
def exported(sparse: Model, folder: Path) -> StageResult:
    return ExportOnnx().run(sparse, context_in(folder))


def test_a_float_file_has_the_zeros_of_the_masks(exported: StageResult, sparse: Model) -> None:
    facts = exported.facts
    assert facts["zeros_in_file"].keys() == {name.removeprefix("masks.") for name in sparse.state}
    assert all(found == expected for found, expected in facts["zeros_in_file"].values())
    assert sum(expected for _, expected in facts["zeros_in_file"].values()) == masked(sparse)
    assert "none is faster" in facts["note"]


def test_a_file_of_integers_has_them_and_is_small_when_compressed(sparse: Model, tmp_path: Path) -> None:
    qat = QuantizeQat.model_validate({"training": {"epochs": 1}})
    quantized = qat.run(sparse, context_in(tmp_path)).model
    assert quantized is not None
    facts = ExportOnnx().run(quantized, context_in(tmp_path)).facts
    assert all(
        found >= expected for found, expected in facts["zeros_in_file"].values()
    )  # small ones round to zero too
    assert sum(expected for _, expected in facts["zeros_in_file"].values()) == masked(sparse)
    assert facts["compressed_bytes"] < (tmp_path / "model.onnx").stat().st_size


def test_a_pruned_weight_that_is_not_zero_in_the_file_is_an_error(
    exported: StageResult, sparse: Model, tmp_path: Path
) -> None:
    model = onnx.load(exported.files["model.onnx"])
    weight = next(each for each in model.graph.initializer if each.name == "features.4.weight")
    values = numpy_helper.to_array(weight).copy()
    values[~sparse.state["masks.features.4.weight"].numpy()] += 0.5
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(StageError, match=r"features.4.weight: \d+ pruned weights are not zero in the file"):
        zeros_in_file(path, sparse)


def test_a_model_without_masks_says_nothing(folder: Path) -> None:
    assert zeros_in_file(folder / "no.onnx", model_of("vgg")) == {}


def test_a_transposed_weight_is_compared_with_the_transposed_mask() -> None:
    mask = np.array([[True, False, True], [False, False, True]])
    assert zeros_where_masked("w", mask.T.astype(np.float32), mask) == [3, 3]
    with pytest.raises(StageError, match="the file holds it as"):
        zeros_where_masked("w", np.zeros((2, 2)), mask)


def test_the_compressed_size_is_that_of_deflate(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 256, 2_500_000, dtype=np.uint8).tobytes()
    (tmp_path / "a").write_bytes(data)
    assert compressed_size([tmp_path / "a"]) == len(zlib.compress(data))
