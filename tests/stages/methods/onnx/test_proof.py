"""What an exported file must show: each check fails on the file it is there for."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
import yaml

from mcomp.errors import StageError
from mcomp.measure.runtimes.onnx import OnnxRuntime
from mcomp.model.edits import Masks, masked_weights
from mcomp_stages.methods.blocks.edit import RemovedBlock, RemovedBlocks
from mcomp_stages.methods.export.graph import served_graph
from mcomp_stages.methods.export.proof import require_masked_zeros, require_parity
from mcomp_stages.methods.onnx.proof import require_integers
from mcomp_stages.methods.onnx.write import write_onnx
from mcomp_stages.methods.quantization.config import Scheme
from mcomp_stages.methods.sparsity.masks import with_masks
from tests.stages.methods.quantization.nets import float_model, pictures, quantized_model
from tests.stages.prune.setting import model_of

EXAMPLE = pictures(2)


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("floats") / "model.onnx"
    write_onnx(served_graph(float_model(), EXAMPLE), EXAMPLE, path, opset=21)
    return path


def test_the_file_of_a_model_agrees_with_it(floats: Path) -> None:
    parity = require_parity(floats, OnnxRuntime(), float_model().module, [pictures()], quantized=False)
    assert parity.agreement == 1.0


def test_the_file_of_another_model_is_refused(floats: Path) -> None:
    with pytest.raises(StageError, match="agrees with the model it came from on"):
        require_parity(floats, OnnxRuntime(), float_model(seed=3).module, [pictures()], quantized=False)


def test_outputs_off_by_a_constant_factor_are_refused(floats: Path) -> None:
    model = float_model()
    with torch.no_grad():
        model.module.get_parameter("fc.weight").mul_(1.01)
        model.module.get_parameter("fc.bias").mul_(1.01)
    with pytest.raises(StageError, match="median error"):
        require_parity(floats, OnnxRuntime(), model.module, [pictures()], quantized=False)


def test_quantized_layers_left_in_float_are_named(floats: Path) -> None:
    with pytest.raises(StageError, match=r"left in float: .*conv, .*fc; .*keep_float: \[.*conv, .*fc\]"):
        require_integers(floats, quantized_model(float_model()))


def test_signed_activations_are_named_where_the_runtime_fuses_unsigned_ones(floats: Path) -> None:
    signed = quantized_model(float_model(), scheme=Scheme(preset="arm_xnnpack"))
    with pytest.raises(StageError, match=r"signed, as preset: arm_xnnpack .* export\.executorch"):
        require_integers(floats, signed)


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


@pytest.fixture(scope="module")
def integers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("integers") / "model.onnx"
    write_onnx(served_graph(quantized_model(float_model()), EXAMPLE), EXAMPLE, path, opset=21)
    return path


def broken(path: Path, initializer: str, factor: float, folder: Path) -> Path:
    """Return a copy of a file in which one initializer is larger by a factor."""
    model = onnx.load(path)
    (tensor,) = (each for each in model.graph.initializer if each.name == initializer)
    value = onnx.numpy_helper.to_array(tensor)
    tensor.CopyFrom(onnx.numpy_helper.from_array((value * factor).astype(value.dtype), initializer))
    onnx.save(model, folder / "broken.onnx")
    return folder / "broken.onnx"


@pytest.mark.parametrize("layer", ["stem", "conv", "shortcut", "fc"])
def test_the_first_layer_that_differs_is_named(layer: str, floats: Path, tmp_path: Path) -> None:
    file = broken(floats, f"{layer}.weight", 1.3, tmp_path)
    served = served_graph(float_model(), EXAMPLE)
    with pytest.raises(StageError, match=r"first layer whose values differ \(SQNR .* dB\)$") as caught:
        require_parity(file, OnnxRuntime(), served, [pictures()], quantized=False)
    assert caught.value.module == layer


def test_of_integers_what_leaves_the_layer_in_float_is_printed(integers: Path, tmp_path: Path) -> None:
    file = broken(integers, "conv.weight_scale", 2.0, tmp_path)
    served = served_graph(quantized_model(float_model()), EXAMPLE)
    with pytest.raises(StageError, match=r"^conv: .*keep_float: \[conv\]$") as caught:
        require_parity(file, OnnxRuntime(), served, [pictures()], quantized=True)
    assert Scheme.model_validate(yaml.safe_load(str(caught.value).rpartition("quantizes: ")[2]))
    require_parity(integers, OnnxRuntime(), served, [pictures()], quantized=True)


def test_what_no_layer_alone_explains_is_said_to_be_so(floats: Path, tmp_path: Path) -> None:
    model = onnx.load(floats)
    (fc,) = (node for node in model.graph.node if node.name == "fc")
    fc.output[0] = "logits"
    model.graph.node.append(onnx.helper.make_node("Neg", ["logits"], ["output"]))
    onnx.save(model, tmp_path / "negated.onnx")
    with pytest.raises(StageError, match="no layer alone differs"):
        require_parity(
            tmp_path / "negated.onnx",
            OnnxRuntime(),
            served_graph(float_model(), EXAMPLE),
            [pictures()],
            quantized=False,
        )


def test_masks_of_a_block_that_was_left_out_are_asked_of_nobody() -> None:
    model = with_masks(model_of("mbconv"), {"blocks.1.project.weight": torch.zeros(16, 48, 1, 1).bool()})
    shorter = model.edited(RemovedBlocks(blocks=(RemovedBlock(module="blocks.1"),)))
    assert masked_weights(model.state) == ("blocks.1.project.weight",)
    assert masked_weights(shorter.state) == ()
    require_masked_zeros(shorter)
