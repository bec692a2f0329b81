"""The stage quantize.static."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from mcomp.data.splits import Splits, TensorSplit
from mcomp.errors import StageError
from mcomp.model.edits import Masks
from mcomp.model.model import Model
from mcomp.stage import Context
from mcomp_stages.export.onnx import ExportOnnx
from mcomp_stages.methods.quantization import calibrate, compare
from mcomp_stages.methods.quantization.post_training import reconstruct as rounding
from mcomp_stages.methods.quantization.sensitivity import quantizers_of
from mcomp_stages.models.vit import ViTConfig
from mcomp_stages.quantize import static
from mcomp_stages.quantize.static import QuantizeStatic
from mcomp_stages.train.supervised import Train
from tests.mcomp.training.checkpoints import Memory
from tests.mcomp.training.setting import (
    SmallConvNet,
    make_context,
    same,
    small_data,
    small_model,
    weights,
)
from tests.stages.samples import sample_of

OBSERVERS = ("minmax", "moving_average", "percentile", "mse", "kl")


def quantize(**fields: Any) -> QuantizeStatic:
    return QuantizeStatic.model_validate({"samples": 32, **fields})


def test_the_sample_in_the_manual_is_valid() -> None:
    assert QuantizeStatic.model_validate(sample_of(static)).samples == 128


@pytest.mark.parametrize("observer", OBSERVERS)
def test_the_result_is_quantized_and_equal_to_what_will_be_served(observer: str) -> None:
    model, context = small_model(), make_context()
    before = weights(model)
    result = quantize(observer={"type": observer}).run(model, context)
    assert result.model is not None
    assert result.model.quantized
    assert same(before, weights(model))
    assert same(before, weights(result.model))
    assert result.facts["activations"] == ["#image", "conv#conv2d_0", "#mean_0"]
    assert result.facts["converted"]["agreement"] >= 0.999
    assert result.facts["weight_bits"] == {"8": 2}
    assert result.facts["sqnr_db"]["output"] > 30


def without_labels() -> Context:
    """A context whose targets cannot be asked for."""
    parts = small_data()
    split = parts.split("calibration")
    inputs = split.batch(torch.arange(len(split))).inputs
    unlabelled = TensorSplit(torch.arange(len(split)), inputs, torch.full((len(split),), -1))
    names = ("train", "validation", "test")
    return make_context(Splits({**{name: parts.split(name) for name in names}, "calibration": unlabelled}))


def test_no_label_changes_anything() -> None:
    fields = {"equalize": True, "bias_correction": True}
    first = quantize(**fields).run(small_model(), make_context()).model
    second = quantize(**fields).run(small_model(), without_labels()).model
    assert first is not None
    assert second is not None
    assert same(first.state, second.state)
    assert same(weights(first), weights(second))


def test_ranges_come_from_as_many_samples_as_asked_for() -> None:
    result = quantize(observer={"type": "minmax"}, samples=20).run(small_model(), make_context())
    assert result.model is not None
    image = make_context().data.split("calibration").batch(torch.arange(20)).inputs["image"]
    assert result.model.state["quantizers.#image.high"] == image.max()
    assert result.model.state["quantizers.#image.seen"] == 2


def test_what_comes_before_and_after_is_in_the_facts() -> None:
    result = quantize(equalize=True, bias_correction=True).run(small_model(), make_context())
    assert result.model is not None
    assert set(result.facts["equalized"]) == {"conv -> fc"}
    assert set(result.facts["bias_shifts"]) == {"conv", "fc"}
    assert not torch.equal(weights(result.model)["conv.bias"], weights(small_model())["conv.bias"])


def test_least_squares_lose_less_of_the_weights_than_extremes() -> None:
    found = {
        kind: quantize(weights={"bits": 3}, weight_range=kind).run(small_model(), make_context()).facts
        for kind in ("extremes", "least_squares")
    }
    for weight in ("conv.weight", "fc.weight"):
        assert found["least_squares"]["sqnr_db"][weight] >= found["extremes"]["sqnr_db"][weight]


def test_adaround_loses_less_of_the_outputs_and_equals_what_will_be_served() -> None:
    few = {"weights": {"bits": 2}, "adaround": {"steps": 60, "lr": 0.05}}
    result = quantize(**few).run(small_model(), make_context())
    plain = quantize(weights={"bits": 2}).run(small_model(), make_context())
    assert result.facts["converted"]["agreement"] >= 0.999
    assert result.facts["sqnr_db"]["output"] > plain.facts["sqnr_db"]["output"] + 1
    for nearest, chosen in result.facts["relative_error"].values():
        assert chosen <= nearest


def test_a_transformer_takes_every_option() -> None:
    spec = ViTConfig(patch=4, depth=1, width=12, heads=3, image_size=8, in_channels=1, num_classes=3)
    torch.manual_seed(0)
    image = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    pictures = TensorSplit(torch.arange(16), {"image": image}, torch.arange(16) % 3)
    context = make_context(Splits(dict.fromkeys(("train", "calibration", "validation", "test"), pictures)))
    options = {"smoothquant": {"strength": 0.5}, "adaround": {"per": "block", "steps": 20, "lr": 0.05}}
    config = quantize(weights={"bits": 4}, samples=16, bias_correction=True, **options)
    result = config.run(Model(spec.build().eval(), spec), context)
    assert result.facts["converted"]["agreement"] >= 0.999
    assert result.facts["smoothed"] == {"blocks.0.norm1": 0.5, "blocks.0.norm2": 0.5}
    assert {"blocks.0.attn", "blocks.0.mlp"} <= set(result.facts["relative_error"])
    assert "blocks.0.mlp.fc2" in result.facts["bias_shifts"]


ROUGH = {"weights": {"bits": 3, "per": "tensor"}, "weight_range": "extremes"}


def trained_model() -> Model:
    """A model with an accuracy to lose."""
    stage = Train.model_validate({"training": {"epochs": 6, "optimizer": {"type": "sgd", "lr": 0.2}}})
    model = stage.run(small_model(), make_context()).model
    assert model is not None
    return model


def fragile_model() -> Model:
    """The same with one channel of the convolution much larger than the others, until its norm."""
    model = trained_model()
    module = model.module
    assert isinstance(module, SmallConvNet)
    with torch.no_grad():
        for tensor, factor in (
            (module.conv.weight, 100.0),
            (module.conv.bias, 100.0),
            (module.norm.running_mean, 100.0),
            (module.norm.running_var, 100.0**2),
        ):
            assert tensor is not None
            tensor[0] *= factor
    return model


@pytest.mark.parametrize("fallback", ["float", 8])
def test_a_tolerance_gives_back_layers_until_it_holds_and_says_which(fallback: str | int) -> None:
    config = quantize(**ROUGH, tolerance={"drop": 0.2, "fallback": fallback})
    result = config.run(fragile_model(), make_context())
    facts = result.facts["tolerance"]
    assert facts["metric_in_float"] - facts["metrics"][0] > 0.2
    assert facts["metric_in_float"] - facts["metrics"][-1] <= 0.2
    assert facts["layers"] == ["conv"]
    assert result.model is not None
    widths = {name: site.bits for name, site in quantizers_of(result.model).weights.items()}
    assert widths == ({"fc.weight": 3} if fallback == "float" else {"conv.weight": 8, "fc.weight": 3})
    assert result.facts["converted"]["agreement"] >= 0.999


def test_a_tolerance_that_holds_changes_nothing() -> None:
    plain = quantize().run(small_model(), make_context())
    bounded = quantize(tolerance={"drop": 1.0}).run(small_model(), make_context())
    assert plain.model is not None
    assert bounded.model is not None
    assert bounded.facts["tolerance"]["layers"] == []
    assert same(plain.model.state, bounded.model.state)


def test_a_tolerance_out_of_reach_is_an_error_but_not_in_a_rehearsal() -> None:
    model = fragile_model()
    config = quantize(**ROUGH, keep_float=["fc"], tolerance={"drop": 0.0})
    with pytest.raises(StageError, match=r"tolerance cannot be met: .*; raise tolerance\.drop"):
        config.run(model, make_context())
    rehearsed = config.run(model, replace(make_context(), rehearsal=True))
    assert rehearsed.model is not None
    assert "tolerance" not in rehearsed.facts


def test_all_options_together_are_resumed_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    config = quantize(
        weights={"bits": 3},
        equalize=True,
        adaround={"steps": 10},
        bias_correction=True,
        tolerance={"drop": 0.02, "fallback": 8},
    )
    model, kept = trained_model(), Memory()
    whole = config.run(model, replace(make_context(), checkpoints=kept))
    monkeypatch.setattr(rounding, "train_roundings", None)
    resumed = config.run(model, replace(make_context(), checkpoints=kept))
    assert resumed.facts == whole.facts
    assert whole.model is not None
    assert resumed.model is not None
    assert same(resumed.model.state, whole.model.state)
    assert same(weights(resumed.model), weights(whole.model))


@pytest.mark.parametrize(
    "fields",
    [
        {"weights": {"bits": 7}},
        {"weights": {"bits": 4, "symmetric": False, "per": "tensor"}},
        {"weights": {"bits": 2}, "activations": {"bits": 4}},
        {"activations": {"bits": 16}},
        {"overrides": [{"layer": "last", "weights": {"bits": 4, "per": "group", "group_size": 2}}]},
    ],
    ids=str,
)
def test_other_grids_equal_what_will_be_served(fields: dict[str, Any]) -> None:
    assert quantize(**fields).run(small_model(), make_context()).facts["converted"]["agreement"] >= 0.999


def test_the_result_is_the_same_every_time() -> None:
    first, second = (quantize().run(small_model(), make_context()).model for _ in range(2))
    assert first is not None
    assert second is not None
    assert same(first.state, second.state)


def test_calibration_is_not_done_again_after_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Memory()
    whole = quantize().run(small_model(), replace(make_context(), checkpoints=kept))
    monkeypatch.setattr(calibrate, "calibrate", None)
    resumed = quantize().run(small_model(), replace(make_context(), checkpoints=kept))
    assert whole.model is not None
    assert resumed.model is not None
    assert resumed.facts == whole.facts
    assert same(resumed.model.state, whole.model.state)


def test_masked_weights_stay_zero() -> None:
    model = small_model().edited(Masks(names=("conv.weight",)))
    mask = torch.arange(9).reshape(3, 3).expand(4, 1, 3, 3) % 2 == 0
    model.state["masks.conv.weight"] = mask
    with torch.no_grad():
        model.module.get_parameter("conv.weight").mul_(mask)
    result = quantize(equalize=True, bias_correction=True).run(model, make_context()).model
    assert result is not None
    assert not result.module.get_parameter("conv.weight")[~mask].any()


def test_the_file_equals_the_model(tmp_path: Path) -> None:
    context = replace(make_context(), folder=tmp_path)
    result = quantize(weights={"bits": 7}).run(small_model(), context)
    assert result.model is not None
    exported = ExportOnnx().run(result.model, context)
    assert exported.facts["parity"]["median_error"] < 1e-5


def test_a_conversion_that_differs_fails_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "SMALLEST_AGREEMENT", 1.01)
    with pytest.raises(StageError, match="#image"):
        quantize().run(small_model(), make_context())


def test_a_pattern_without_a_match_is_an_error() -> None:
    with pytest.raises(StageError, match="no module matches 'cnov'; did you mean 'conv'"):
        quantize(keep_float=["cnov"]).run(small_model(), make_context())


def test_more_samples_than_there_are_is_an_error() -> None:
    with pytest.raises(StageError, match="50 calibration samples are asked for and there are 49; lower"):
        quantize(samples=50).run(small_model(), make_context())


def test_weights_that_are_not_finite_are_told_by_the_site_they_spoil() -> None:
    model = small_model()
    with torch.no_grad():
        model.module.get_parameter("conv.weight")[0, 0, 0, 0] = float("nan")
    with pytest.raises(StageError, match=r"conv#conv2d_0: .* not finite; look at the calibration data"):
        quantize().run(model, make_context())


def test_an_activation_that_is_zero_in_all_samples_is_an_error() -> None:
    model = small_model()
    with torch.no_grad():
        model.module.get_parameter("norm.bias").fill_(-1e3)
    with pytest.raises(StageError, match=r"conv#conv2d_0: it is zero in all calibration samples.*keep_float"):
        quantize().run(model, make_context())


def test_inputs_that_nothing_before_can_smooth_are_an_error() -> None:
    with pytest.raises(StageError, match=r"smoothquant: no linear reads .*; leave smoothquant out"):
        quantize(smoothquant={}).run(small_model(), make_context())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weights": {"bits": 9}}, r"weights\.bits"),
        ({"activations": {"bits": 1}}, r"activations\.bits"),
        ({"observer": {"type": "entropy"}}, "observer"),
        ({"samples": 1}, "samples"),
        ({"weight_range": "mse"}, "weight_range"),
        ({"adaround": {"per": "model"}}, r"adaround\.per"),
        ({"smoothquant": {"strength": 1.5}}, r"smoothquant\.strength"),
        ({"tolerance": {"drop": -0.1}}, r"tolerance\.drop"),
        ({"tolerance": {"fallback": 4}}, r"tolerance\.fallback"),
    ],
)
def test_what_does_not_fit_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        quantize(**fields)


def test_layers_are_tried_alone_on_the_grids_of_the_stage() -> None:
    stage = QuantizeStatic.model_validate({"samples": 8, "weights": {"bits": 4}})
    trials = stage.trials(small_model(), make_context(), ())
    assert [(each.part, each.level) for each in trials.trials if "#" not in each.part] == [
        ("conv", 8), ("conv", 4), ("fc", 8), ("fc", 4),
    ]  # fmt: skip
    patch = trials.patch({each.part: None if each.part == "fc" else each.level for each in trials.trials})
    patched = QuantizeStatic.model_validate({"samples": 8, "weights": {"bits": 4}, **patch.fields})
    result = patched.run(small_model(), make_context())
    assert result.facts["weights"] == ["conv.weight"]
