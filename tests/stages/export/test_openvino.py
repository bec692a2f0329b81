"""The stage export.openvino."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mcomp.errors import StageError
from mcomp.stage import Context
from mcomp_stages.export import openvino as stage
from mcomp_stages.export.openvino import ExportOpenVino
from mcomp_stages.methods.export.proof import validation_inputs
from tests.mcomp.training.setting import make_context, small_model
from tests.stages.methods.quantization.nets import quantized_model
from tests.stages.samples import sample_of


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return replace(make_context(), folder=tmp_path)


def test_the_sample_in_the_manual_is_valid() -> None:
    assert ExportOpenVino.model_validate(sample_of(stage)) == ExportOpenVino()


def test_a_quantized_model_becomes_two_proven_files(context: Context) -> None:
    result = ExportOpenVino().run(quantized_model(small_model(), validation_inputs(context)[0]), context)
    assert result.model is None
    assert list(result.files) == ["model.xml", "model.bin"]
    assert result.facts["parity"]["agreement"] >= 0.98
    assert (result.facts["census"]["int8"], result.facts["census"]["float"]) == (2, 0)


def test_a_float_model_is_exported_by_the_same_stage(context: Context) -> None:
    result = ExportOpenVino().run(small_model(), context)
    assert result.facts["census"]["float"] == 2
    assert result.facts["parity"]["agreement"] == 1.0
    assert result.facts["parity"]["max_error"] < 1e-5


def test_files_that_disagree_fail_the_stage(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    from mcomp_stages.methods.export import proof

    monkeypatch.setattr(proof, "SMALLEST_AGREEMENT", 1.01)
    with pytest.raises(StageError, match="agrees with the model"):
        ExportOpenVino().run(small_model(), context)
