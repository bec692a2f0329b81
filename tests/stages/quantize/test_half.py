"""The stage quantize.half."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from pydantic import ValidationError

from mcomp.errors import StageError
from mcomp.measure.census import census
from mcomp.measure.runtimes.onnx import OnnxRuntime
from mcomp.model.checkpoint import load_model, save_model
from mcomp.model.model import Model
from mcomp.stage import StageResult
from mcomp_stages.methods.export.graph import served_graph
from mcomp_stages.methods.export.proof import require_parity
from mcomp_stages.methods.half.choice import half_weights
from mcomp_stages.methods.half.edit import HalfWeights
from mcomp_stages.methods.onnx.write import write_onnx
from mcomp_stages.models.lenet5 import LeNet5Config
from mcomp_stages.quantize import half
from mcomp_stages.quantize.half import QuantizeHalf
from tests.architectures import example
from tests.stages.prune.setting import context_in, model_of, pictures
from tests.stages.samples import sample_of


def run(folder: Path, model: Model | None = None, **fields: object) -> StageResult:
    stage = QuantizeHalf.model_validate({"samples": 8, **fields})
    return stage.run(model or model_of("vgg"), context_in(folder))


def test_the_sample_in_the_manual_is_valid() -> None:
    assert QuantizeHalf.model_validate(sample_of(half)).dtype == "float16"


def test_weights_take_half_of_the_bytes(tmp_path: Path) -> None:
    original = model_of("vgg")
    result = run(tmp_path, original)
    assert result.model is not None
    num_weights = sum(each.numel() for each in original.module.parameters() if each.ndim > 1)
    assert result.facts["bytes"]["16 bit"] == 2 * num_weights


def test_on_disk_they_are_kept_once_and_come_back_as_they_were(tmp_path: Path) -> None:
    config = LeNet5Config(in_channels=1, image_size=12, num_classes=10)
    original = Model(config.build(), config)
    weights, _ = half_weights(original.module, ())
    model = original.edited(HalfWeights(dtype="bfloat16", weights=weights))
    for name, each in (("half", model), ("float", original)):
        save_model(each, tmp_path / name)
    sizes = [(tmp_path / name / "weights.safetensors").stat().st_size for name in ("half", "float")]
    assert 0.5 < sizes[0] / sizes[1] < 0.52
    loaded = load_model(tmp_path / "half").module.state_dict()
    for name, value in model.module.state_dict().items():
        assert torch.equal(loaded[name], value)


def test_every_layer_is_compared_with_the_float_model(tmp_path: Path) -> None:
    ratios = [run(tmp_path, dtype=dtype).facts["sqnr_db"] for dtype in ("float16", "bfloat16")]
    assert list(ratios[0]) == [
        "features.0", "features.4", "features.8", "classifier.0", "classifier.4",
    ]  # fmt: skip
    # Three binary digits more are 18 dB.
    assert all(
        15 < fine - coarse < 21 for fine, coarse in zip(*(each.values() for each in ratios), strict=True)
    )


def test_a_layer_that_is_too_far_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"^features\.0: .* keep_float: \[features\.0\]"):
        run(tmp_path, smallest_sqnr_db=90.0)


def test_a_weight_that_float16_has_no_number_for_is_named(tmp_path: Path) -> None:
    model = model_of("vgg")
    with torch.no_grad():
        model.module.get_parameter("features.4.weight")[0, 0, 0, 0] = 70000.0
    with pytest.raises(
        StageError, match=r"features\.4\.weight has a weight of 70000.* keep_float: \[features\.4\]"
    ):
        run(tmp_path, model)
    assert run(tmp_path, model, keep_float=["features.4"]).model is not None
    assert run(tmp_path, model, dtype="bfloat16").model is not None


def test_an_activation_that_float16_has_no_number_for_is_named(tmp_path: Path) -> None:
    model = model_of("vgg")
    with torch.no_grad():
        model.module.get_parameter("features.9.weight").mul_(1e6)
    with pytest.raises(StageError, match=r"^features\.9: .* reaches .* float16 ends at 65504"):
        run(tmp_path, model, activations="half")
    assert run(tmp_path, model).model is not None


@pytest.mark.parametrize(
    ("net", "fields"),
    [
        ("vgg", {"dtype": "float16"}),
        ("vgg", {"dtype": "bfloat16"}),
        ("vgg", {"activations": "half"}),
        ("eager", {"activations": "half"}),
    ],
)
def test_the_file_is_valid_small_and_serves_what_the_model_computes(
    net: str, fields: dict[str, object], tmp_path: Path
) -> None:
    result = run(tmp_path, model_of(net), **fields)
    assert result.model is not None
    served = served_graph(result.model, example())
    path = tmp_path / "model.onnx"
    write_onnx(served, example(), path, opset=21)
    batches = [pictures(32).batch(torch.arange(32)).inputs]
    assert require_parity(path, OnnxRuntime(), served, batches, quantized=True).mean_cosine > 0.9999
    kinds = [tensor.data_type for tensor in onnx.load(path).graph.initializer if len(tensor.dims) > 1]
    wanted = onnx.TensorProto.BFLOAT16 if fields.get("dtype") == "bfloat16" else onnx.TensorProto.FLOAT16
    assert set(kinds) == {wanted}
    assert path.stat().st_size < 1.3 * result.facts["bytes"]["16 bit"] + 20_000
    assert census(path, tmp_path).int8 == 0


def test_arithmetic_in_bfloat16_is_refused() -> None:
    with pytest.raises(ValidationError, match="no convolution in bfloat16"):
        QuantizeHalf(dtype="bfloat16", activations="half")


def test_a_pattern_that_leaves_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no weight left"):
        run(tmp_path, keep_float=["*"])


def test_a_module_tried_alone_is_served_as_a_stage_serves_it_that_keeps_the_others(tmp_path: Path) -> None:
    model, images = model_of("vgg"), pictures(8).batch(torch.arange(8)).inputs
    trials = QuantizeHalf().trials(model, context_in(tmp_path), ())
    parts = ["features.0", "features.4", "features.8", "classifier.0", "classifier.4"]
    assert [(trial.part, trial.level) for trial in trials.trials] == [(part, 16) for part in parts]
    alone = run(tmp_path, model, keep_float=parts[:-1]).model
    assert alone is not None
    with torch.no_grad(), trials.trials[-1].module() as module:
        assert torch.equal(module(**images), alone.inference_module(example())(**images))


def test_where_values_are_rounded_too_they_are_in_the_module_alone(tmp_path: Path) -> None:
    model, images = model_of("vgg"), pictures(8).batch(torch.arange(8)).inputs
    last = QuantizeHalf(activations="half").trials(model, context_in(tmp_path), ()).trials[-1]
    module = model.module.eval()
    with torch.no_grad(), last.module() as served:
        found = served(**images)
        hidden = module.classifier[:-1](module.features(images["image"]).flatten(1)).half()
        assert torch.equal(found, module.classifier[-1].half()(hidden).float())


def test_the_patch_keeps_what_does_not_bear_sixteen_bits(tmp_path: Path) -> None:
    stage = QuantizeHalf.model_validate({"keep_float": ["features.0"], "samples": 8})
    trials = stage.trials(model_of("vgg"), context_in(tmp_path), ())
    levels = {trial.part: None if trial.part == "classifier.0" else 16.0 for trial in trials.trials}
    assert trials.patch(levels).fields == {"keep_float": ["features.0", "classifier.0"]}
    assert trials.patch(dict.fromkeys(levels, 16.0)).fields == {}
    assert "every layer" in trials.patch(dict.fromkeys(levels)).said
    with pytest.raises(StageError, match="16 bits, not 8"):
        stage.trials(model_of("vgg"), context_in(tmp_path), (8.0,))
