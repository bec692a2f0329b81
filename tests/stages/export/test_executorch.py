"""The stage export.executorch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mcomp.data.contract import VaryingSize
from mcomp.errors import StageError
from mcomp.measure.latency import interleaved
from mcomp.measure.runtimes.executorch import ExecuTorch
from mcomp.model.example import Example
from mcomp.stage import Context
from mcomp_stages.export import executorch as stage
from mcomp_stages.export.executorch import ExportExecuTorch
from mcomp_stages.methods.executorch import write
from mcomp_stages.methods.executorch.quantizers import with_known_quantizers
from mcomp_stages.methods.export.graph import served_graph
from mcomp_stages.methods.export.proof import validation_inputs
from tests.mcomp.training.setting import make_context, small_model
from tests.stages.methods.quantization.nets import float_model, pictures, quantized_model
from tests.stages.samples import sample_of


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return replace(make_context(), folder=tmp_path)


def test_the_sample_in_the_manual_is_valid() -> None:
    assert ExportExecuTorch.model_validate(sample_of(stage)) == ExportExecuTorch()


@pytest.mark.slow  # two processes that import torch and ExecuTorch
@pytest.mark.parametrize("quantized", [False, True])
def test_a_model_becomes_a_proven_program(quantized: bool, context: Context) -> None:
    model = small_model()
    if quantized:
        model = quantized_model(model, validation_inputs(context)[0])
    result = ExportExecuTorch().run(model, context)
    assert list(result.files) == ["model.pte"]
    assert result.facts["parity"]["agreement"] == 1.0
    assert result.facts["parity"]["max_error"] < 1e-5
    assert result.facts["delegates"] >= 1
    session = ExecuTorch().load(result.files["model.pte"])
    assert session.input_sizes == {"image": (1, 1, 6, 6)}
    assert interleaved({"it": session}, {"image": np.zeros((1, 1, 6, 6), np.float32)}, 2)["it"][0] > 0
    with pytest.raises(StageError, match=r"takes image, but was given x"):
        session.run({"x": np.zeros(1)})


def test_signed_quantizers_stand_for_the_same_numbers() -> None:
    served = served_graph(quantized_model(float_model()), pictures(2))
    with torch.no_grad():
        assert torch.equal(with_known_quantizers(served)(**pictures()), served(**pictures()))


def test_sizes_that_vary_must_be_fixed(context: Context) -> None:
    varying = Example(context.example.inputs, {"image": {3: VaryingSize("width", 8)}})
    with pytest.raises(StageError, match=r"fixed sizes, and width varies; add fixed: \{width: \.\.\.\}"):
        ExportExecuTorch().run(small_model(), replace(context, example=varying))


def test_a_process_that_dies_is_told(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "PROCESS", "no.such.module")
    with pytest.raises(
        StageError, match=r"ExecuTorch ended with exit code 1 .*to write model\.pte; run again"
    ):
        ExportExecuTorch().run(small_model(), context)


@pytest.mark.slow  # a process that imports torch and ExecuTorch
def test_what_is_no_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.pte").write_bytes(b"no program")
    with pytest.raises(StageError, match=r"ExecuTorch cannot load m\.pte"):
        ExecuTorch().load(tmp_path / "m.pte")
