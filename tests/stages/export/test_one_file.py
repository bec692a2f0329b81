"""The stage export.safetensors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mcomp import plugins
from mcomp.errors import StageError
from mcomp.stage import Context
from mcomp_stages.export import one_file as stage
from mcomp_stages.export.one_file import ExportSafetensors
from mcomp_stages.methods.export.proof import validation_inputs
from tests.mcomp.training.setting import SmallConfig, make_context, small_model
from tests.stages.methods.quantization.nets import quantized_model
from tests.stages.samples import sample_of


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.setattr(plugins, "decorated", {})
    plugins.model("small")(SmallConfig)
    return replace(make_context(), folder=tmp_path)


def test_the_sample_in_the_manual_is_valid() -> None:
    assert ExportSafetensors.model_validate(sample_of(stage)) == ExportSafetensors()


@pytest.mark.parametrize("quantized", [False, True])
def test_a_model_becomes_a_file_that_is_the_same_model(quantized: bool, context: Context) -> None:
    model = small_model()
    if quantized:
        model = quantized_model(model, validation_inputs(context)[0])
    result = ExportSafetensors().run(model, context)
    assert list(result.files) == ["model.safetensors"]
    assert result.facts["parity"]["max_error"] == 0
    assert result.facts["equal_weights"] == len(model.module.state_dict())
    assert sum(result.facts["bytes"].values()) == result.files["model.safetensors"].stat().st_size


def test_a_file_that_lost_a_weight_fails_the_stage(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    from mcomp.model import unpack

    monkeypatch.setitem(unpack.TYPES, "F32", "<u4")
    with pytest.raises(StageError, match="does not give back this weight"):
        ExportSafetensors().run(small_model(), context)
