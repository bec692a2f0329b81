"""The stage quantize.binary."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import nn

from mcomp.errors import StageError
from mcomp.model.checkpoint import load_model, save_model
from mcomp.model.edits import Masks
from mcomp.model.model import Model
from mcomp.stage import StageResult
from mcomp.training.config import AdamW
from mcomp_stages.export.onnx import ExportOnnx
from mcomp_stages.methods.distillation.config import DistilledTraining
from mcomp_stages.methods.quantization.edit import Quantizers
from mcomp_stages.models.resnet import ResNetConfig
from mcomp_stages.quantize import binary
from mcomp_stages.quantize.binary import QuantizeBinary
from tests.mcomp.training.setting import make_context, same, small_model, weights
from tests.stages.methods.quantization.nets import with_statistics
from tests.stages.samples import sample_of

TRAINING = DistilledTraining(epochs=1, optimizer=AdamW(lr=0.01))
SPEC = ResNetConfig(depth=20, width=4, in_channels=1, num_classes=3)


def resnet() -> Model:
    torch.manual_seed(0)
    return Model(with_statistics(SPEC.build()).eval(), SPEC)


def run(model: Model, **fields: Any) -> StageResult:
    return QuantizeBinary.model_validate({"training": TRAINING, **fields}).run(model, make_context())


def test_the_sample_in_the_manual_is_valid() -> None:
    assert QuantizeBinary.model_validate(sample_of(binary)).activations == 1


@pytest.mark.parametrize("activations", [1, 2, 8, 32])
@pytest.mark.parametrize("kind", ["binary", "ternary"])
def test_every_width_trains_and_equals_what_will_be_served(
    kind: str, activations: int, tmp_path: Path
) -> None:
    result = run(resnet(), weights=kind, activations=activations)
    assert result.model is not None
    assert result.facts["converted"]["agreement"] >= 0.999
    save_model(result.model, tmp_path)
    stored = load_file(tmp_path / "weights.safetensors")
    codes = stored["state:quantizers.layer2.0.conv1.weight.codes"]
    assert codes.shape == (8, -(-36 * (1 if kind == "binary" else 2) // 8))
    assert "layer2.0.conv1.weight" not in stored
    assert same(weights(load_model(tmp_path)), weights(result.model))


def test_the_first_and_the_last_layer_stay_in_float_unless_said() -> None:
    layers = {}
    for said in (False, True):
        result = run(resnet(), first_layer=said, last_layer=said, activations=32)
        layers[said] = result.facts["weights"]
    assert {"conv1.weight", "fc.weight"} == set(layers[True]) - set(layers[False])


def test_what_stands_around_is_learned_and_comes_back(tmp_path: Path) -> None:
    result = run(resnet()).model
    assert result is not None
    edit = result.edits[-1]
    assert isinstance(edit, Quantizers)
    first, second, wider = (
        edit.binary[path] for path in ("layer1.0.conv1", "layer1.0.conv2", "layer2.0.conv1")
    )
    assert (first.shortcut, second.shortcut, wider.shortcut) == ("same", "none", "pooled")
    assert (first.signs, wider.signs, wider.rprelu) == (4, 4, 8)
    for site in ("layer1.0.conv1#sign.threshold", "layer1.0.conv1#rprelu.slope"):
        assert result.state[f"quantizers.{site}"].unique().numel() > 1
    save_model(result, tmp_path)
    assert same(load_model(tmp_path).state, result.state)


def test_without_anything_around_only_the_weights_change() -> None:
    result = run(resnet(), shortcuts=False, rprelu=False, activations=32).model
    assert result is not None
    edit = result.edits[-1]
    assert isinstance(edit, Quantizers)
    assert {layer.model_dump_json(exclude_defaults=True) for layer in edit.binary.values()} == {"{}"}


def test_a_first_step_trains_what_stands_around_float_weights() -> None:
    result = run(resnet(), first_step={"epochs": 1})
    assert len(result.facts["first_step"]["history"]) == 1
    assert result.facts["weight_bits"]["1"] > 15


def test_pruned_weights_can_be_ternary_and_stay_zero_but_not_binary() -> None:
    model = resnet()
    weight = model.module.get_parameter("layer1.0.conv1.weight")
    mask = torch.arange(weight.numel()).reshape(weight.shape) % 3 > 0
    model = model.edited(Masks(names=("layer1.0.conv1.weight",)))
    model.state["masks.layer1.0.conv1.weight"] = mask
    with torch.no_grad():
        model.module.get_parameter("layer1.0.conv1.weight").mul_(mask)
    with pytest.raises(StageError, match=r"layer1\.0\.conv1: .*take weights: ternary"):
        run(model)
    result = run(model, weights="ternary").model
    assert result is not None
    assert not result.module.get_parameter("layer1.0.conv1.weight")[~mask].any()


def test_the_file_holds_one_bit_a_weight_and_gives_what_the_model_gives(tmp_path: Path) -> None:
    result = run(resnet()).model
    assert result is not None
    context = replace(make_context(), folder=tmp_path)
    exported = ExportOnnx().run(result, context)
    stored = {tensor.name: tensor for tensor in onnx.load(exported.files["model.onnx"]).graph.initializer}
    assert len(stored["layer2.0.conv1.weight_int1"].raw_data) == 8 * 4 * 9 // 8
    assert exported.facts["parity"]["agreement"] >= 0.98


def test_a_channel_that_batch_norm_switched_off_is_stored_in_two_bits(tmp_path: Path) -> None:
    model = resnet()
    norm = model.module.get_submodule("layer2.0.bn1")
    assert isinstance(norm, nn.BatchNorm2d)
    with torch.no_grad():
        norm.weight[0] = 0.0
        norm.weight[1] = -1.0
    norm.weight.requires_grad_(False)
    result = run(model, activations=32).model
    assert result is not None
    converted = result.inference_module(make_context().example)
    names = dict(converted.named_buffers())
    assert "layer2.0.conv1.weight_int2" in names
    assert "layer2.0.conv2.weight_int1" in names


def test_patterns_keep_layers_in_float_and_must_match() -> None:
    kept = run(resnet(), keep_float=["layer2*"], activations=32).facts["weights"]
    assert not any(name.startswith("layer2") for name in kept)
    with pytest.raises(StageError, match="layre"):
        run(resnet(), keep_float=["layre2*"])


def test_nothing_left_to_change_is_an_error() -> None:
    with pytest.raises(StageError, match="no layer is left"):
        run(small_model())


@pytest.mark.parametrize(
    "wrong",
    [
        {"activations": 4},
        {"weights": "quinary"},
        {"activations": 32, "shortcuts": False, "rprelu": False, "first_step": {}},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        QuantizeBinary.model_validate({"training": TRAINING, **wrong})


@pytest.mark.parametrize(("kind", "bits"), [("binary", 1), ("ternary", 2)])
def test_layers_are_made_binary_one_by_one_and_the_patch_is_obeyed(kind: str, bits: int) -> None:
    fields = {"weights": kind, "activations": 8, "training": TRAINING}
    stage, model = QuantizeBinary.model_validate(fields), resnet()
    trials = stage.trials(model, make_context(), ())
    parts = [trial.part for trial in trials.trials]
    assert (len(parts), parts[0], {trial.level for trial in trials.trials}) == (20, "layer1.0.conv1", {bits})
    image = make_context().data.split("calibration").batch(torch.arange(4)).inputs
    with torch.no_grad(), trials.trials[0].module() as module:
        first = module(**image)
        assert list(module.weight_quantizers()) == ["layer1.0.conv1.weight"]
        assert not torch.equal(first, trials.module(**image))
    patch = trials.patch({part: None if part == "layer2.0.conv1" else float(bits) for part in parts})
    assert patch.fields == {"keep_float": ["layer2.0.conv1"]}
    kept = QuantizeBinary.model_validate({**fields, **patch.fields}).edit(model, make_context())
    assert "layer2.0.conv1.weight" not in kept.weights
    assert len(kept.weights) == 19
