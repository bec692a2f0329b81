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
from mcomp.stage import Context
from mcomp_stages.export.onnx import ExportOnnx
from mcomp_stages.methods.quantization import calibrate, compare
from mcomp_stages.quantize import static
from mcomp_stages.quantize.static import QuantizeStatic
from tests.mcomp.training.checkpoints import Memory
from tests.mcomp.training.setting import make_context, same, small_data, small_model, weights
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


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weights": {"bits": 9}}, r"weights\.bits"),
        ({"activations": {"bits": 1}}, r"activations\.bits"),
        ({"observer": {"type": "entropy"}}, "observer"),
        ({"samples": 1}, "samples"),
        ({"weight_range": "mse"}, "weight_range"),
    ],
)
def test_what_does_not_fit_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        quantize(**fields)
