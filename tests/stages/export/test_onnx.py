"""The stage export.onnx."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from pydantic import ValidationError

from mcomp.errors import RecipeError, StageError
from mcomp.model.edits import Masks
from mcomp.model.model import Model
from mcomp.recipe.build import load_recipe
from mcomp.stage import Context
from mcomp_stages.export import onnx as stage
from mcomp_stages.export.onnx import ExportOnnx
from mcomp_stages.methods.export.proof import validation_inputs
from tests.mcomp.training.setting import make_context, small_model
from tests.stages.methods.quantization.nets import quantized_model
from tests.stages.samples import sample_of


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return replace(make_context(), folder=tmp_path)


def quantized(context: Context) -> Model:
    return quantized_model(small_model(), validation_inputs(context)[0])


def test_the_sample_in_the_manual_is_valid() -> None:
    assert ExportOnnx.model_validate(sample_of(stage)) == ExportOnnx()


def test_a_quantized_model_becomes_a_proven_file(context: Context) -> None:
    result = ExportOnnx().run(quantized(context), context)
    assert result.model is None
    onnx.checker.check_model(result.files["model.onnx"], full_check=True)
    assert result.facts["opset"] == 21
    assert result.facts["parity"]["samples"] == 24
    assert result.facts["parity"]["agreement"] >= 0.98
    assert (result.facts["census"]["int8"], result.facts["census"]["float"]) == (2, 0)


def test_a_float_model_is_exported_by_the_same_stage(context: Context) -> None:
    result = ExportOnnx().run(small_model(), context)
    assert result.facts["census"]["float"] == 2
    assert result.facts["parity"]["agreement"] == 1.0


def test_a_file_that_disagrees_fails_the_stage(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    from mcomp_stages.methods.export import proof

    monkeypatch.setattr(proof, "SMALLEST_AGREEMENT", 1.01)
    with pytest.raises(StageError, match="agrees with the model"):
        ExportOnnx().run(small_model(), context)


def test_pruned_weights_that_are_not_zero_fail_the_stage(context: Context) -> None:
    model = small_model().edited(Masks(names=("conv.weight",)))
    model.state["masks.conv.weight"][0] = False
    with pytest.raises(StageError, match=r"conv\.weight"):
        ExportOnnx().run(model, context)


@pytest.mark.parametrize("opset", [20, 24])
def test_other_operator_sets_are_refused(opset: int) -> None:
    with pytest.raises(ValidationError, match="opset"):
        ExportOnnx(opset=opset)


@pytest.mark.parametrize("kind", ["export.onnx", "export.openvino"])
def test_an_operator_set_below_the_widths_is_told_with_what_came_when(kind: str, tmp_path: Path) -> None:
    model = "version: 1\nname: old\nmodel: {type: lenet5}\ndata: {type: digits}\n"
    stages = f"stages:\n  train: {{type: train, training: {{epochs: 1}}}}\n  e: {{type: {kind}, opset: 20}}\n"
    (tmp_path / "r.yaml").write_text(model + stages)
    with pytest.raises(RecipeError, match=r"at least 21, not 20; it is: .*integers of 4 and 16 bits.* 21"):
        load_recipe(tmp_path / "r.yaml")
