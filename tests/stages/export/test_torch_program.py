"""The stage export.torch."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from mcomp.errors import StageError
from mcomp.measure.runtimes.torch_program import TorchProgram
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


def test_without_a_compiler_there_is_no_machine_code(context: Context) -> None:
    from torch._inductor import config

    missing = r"compile needs a C\+\+ compiler, .*CXX, or leave compile out"
    with config.patch({"cpp.cxx": ("no-such-compiler",)}), pytest.raises(StageError, match=missing):
        ExportTorch(compile=True).run(small_model(), context)


def test_machine_code_is_of_a_machine_and_a_program_is_not() -> None:
    assert ExportTorch(compile=True).timed()
    assert not ExportTorch().timed()


@pytest.mark.slow  # a C++ compiler takes a minute
@pytest.mark.parametrize("quantized", [False, True])
def test_a_model_becomes_machine_code_that_computes_the_same(quantized: bool, context: Context) -> None:
    model = small_model()
    if quantized:
        model = quantized_model(model, validation_inputs(context)[0])
    result = ExportTorch(compile=True).run(model, replace(context, key="ab"))
    assert result.facts["parity"]["agreement"] == 1.0
    assert result.facts["parity"]["max_error"] < 1e-5
    session = TorchProgram().load(result.files["model.pt2"], 2)
    assert session.input_sizes == {"image": (None, 1, 6, 6)}
    with zipfile.ZipFile(result.files["model.pt2"]) as archive:
        assert archive.read("model/extra/mcomp.key") == b"ab"
    assert TorchProgram().layer_values(result.files["model.pt2"], {}) == {}


def test_a_package_of_others_is_refused_in_words(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt2", "w") as archive:
        archive.writestr("m/data/aotinductor/model/x.so", b"no code")
    with pytest.raises(StageError, match=r"PyTorch cannot load m\.pt2"):
        TorchProgram().load(tmp_path / "m.pt2")
