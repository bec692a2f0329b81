"""What an exported file must show: each check fails on the file it is there for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mcomp.errors import StageError
from mcomp.model.edits import Masks
from mcomp_stages.methods.onnx.graph import served_graph
from mcomp_stages.methods.onnx.proof import require_integers, require_masked_zeros, require_parity
from mcomp_stages.methods.onnx.write import write_onnx
from tests.stages.methods.quantization.nets import float_model, pictures, quantized_model

EXAMPLE = pictures(2)


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("floats") / "model.onnx"
    write_onnx(served_graph(float_model(), EXAMPLE), EXAMPLE, path, opset=21)
    return path


def test_the_file_of_a_model_agrees_with_it(floats: Path) -> None:
    parity = require_parity(floats, float_model().module, [pictures()], quantized=False)
    assert parity.agreement == 1.0


def test_the_file_of_another_model_is_refused(floats: Path) -> None:
    with pytest.raises(StageError, match="agrees with the model it came from on"):
        require_parity(floats, float_model(seed=3).module, [pictures()], quantized=False)


def test_outputs_off_by_a_constant_factor_are_refused(floats: Path) -> None:
    model = float_model()
    with torch.no_grad():
        model.module.get_parameter("fc.weight").mul_(1.01)
        model.module.get_parameter("fc.bias").mul_(1.01)
    with pytest.raises(StageError, match="median error"):
        require_parity(floats, model.module, [pictures()], quantized=False)


def test_quantized_layers_left_in_float_are_named(floats: Path) -> None:
    with pytest.raises(StageError, match=r"left in float: .*conv, .*fc"):
        require_integers(floats, quantized_model(float_model()))


def test_a_float_model_owes_no_integers(floats: Path) -> None:
    assert require_integers(floats, float_model()).float == 4


def test_masked_weights_must_be_zero() -> None:
    model = float_model()
    mask = model.module.get_parameter("conv.weight") > 0
    masked = model.edited(Masks(names=("conv.weight",)))
    masked.state["masks.conv.weight"] = mask
    with pytest.raises(StageError, match=r"conv\.weight.*not zero any more"):
        require_masked_zeros(masked)
    with torch.no_grad():
        masked.module.get_parameter("conv.weight").mul_(mask)
    require_masked_zeros(masked)
