"""The stage export.torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mcomp.errors import StageError
from mcomp.stage import Context
from mcomp_stages.export import torch_program as stage
from mcomp_stages.export.torch_program import ExportTorch
from mcomp_stages.methods.export.proof import validation_inputs
from tests.mcomp.training.setting import make_context, small_model
from tests.stages.methods.quantization.nets import quantized_model
from tests.stages.samples import sample_of


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return replace(make_context(), folder=tmp_path)


def test_the_sample_in_the_manual_is_valid() -> None:
    assert ExportTorch.model_validate(sample_of(stage)) == ExportTorch()


@pytest.mark.parametrize("quantized", [False, True])
def test_a_model_becomes_a_program_that_computes_the_same(quantized: bool, context: Context) -> None:
    model = small_model()
    if quantized:
        model = quantized_model(model, validation_inputs(context)[0])
    result = ExportTorch().run(model, context)
    assert list(result.files) == ["model.pt2"]
    assert result.facts["parity"]["agreement"] == 1.0
    assert result.facts["parity"]["max_error"] < 1e-6


def test_a_program_that_disagrees_fails_the_stage(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    from mcomp_stages.methods.export import proof

    monkeypatch.setattr(proof, "SMALLEST_AGREEMENT", 1.01)
    with pytest.raises(StageError, match="agrees with the model"):
        ExportTorch().run(small_model(), context)
