"""Layers quantized one by one, and the overrides that follow."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mcomp.errors import StageError
from mcomp.measure.sqnr import sqnr_db
from mcomp.model.model import Model
from mcomp.sensitivity.trials import Trials
from mcomp_stages.methods.quantization.calibrate import calibrated
from mcomp_stages.methods.quantization.config import Scheme
from mcomp_stages.methods.quantization.observers.config import MinMax
from mcomp_stages.methods.quantization.scheme import quantizers_for
from mcomp_stages.methods.quantization.trials import quantization_trials
from tests.stages.methods.quantization.nets import float_model, pictures

INPUTS = pictures()
EXAMPLE = {name: tensor[:2] for name, tensor in INPUTS.items()}
LAYERS = ["stem", "conv", "shortcut", "fc"]


def made(scheme: dict[str, object], levels: tuple[float, ...] = ()) -> Trials:
    model = float_model()

    def quantized(scheme: Scheme) -> Model:
        edit = quantizers_for(model.module, EXAMPLE, scheme)
        return calibrated(model.edited(edit), EXAMPLE, [INPUTS], MinMax())

    return quantization_trials(Scheme.model_validate(scheme), quantized, EXAMPLE, levels)


def levels_of(trials: Trials, part: str) -> list[float]:
    return [trial.level for trial in trials.trials if trial.part == part]


def output(trials: Trials, part: str, level: float) -> Tensor:
    (trial,) = (each for each in trials.trials if (each.part, each.level) == (part, level))
    with trial.module() as module, torch.no_grad():
        result: Tensor = module(**INPUTS)
    return result


def test_narrow_layers_are_tried_with_eight_bits_as_well() -> None:
    trials = made({"weights": {"bits": 4}, "overrides": [{"modules": "fc", "weights": {"bits": 7}}]})
    assert levels_of(trials, "conv") == [8, 4]
    assert levels_of(trials, "fc") == [7]
    assert levels_of(trials, "#add_0") == [8]


def test_asked_widths_stand_from_the_mildest_on() -> None:
    assert levels_of(made({}, (3.0, 8.0, 4.0)), "conv") == [8, 4, 3]


def rounded(x: Tensor, scale: Tensor, lowest: int, highest: int, zero: Tensor | float = 0.0) -> Tensor:
    """The definition of a grid."""
    return ((torch.round(x / scale) + zero).clamp(lowest, highest) - zero) * scale


def test_another_width_rounds_the_layer_and_its_input_and_nothing_else() -> None:
    original = float_model()
    weight = original.module.get_parameter("stem.weight")
    with torch.no_grad():
        weight.copy_(rounded(weight, weight.abs().amax((1, 2, 3), keepdim=True) / 3, -3, 3))
        image = INPUTS["image"]
        low, high = image.min(), image.max()
        scale = (high - low) / 255
        expected = original.module(rounded(image, scale, 0, 255, torch.round(-low / scale)))
    assert sqnr_db(expected, output(made({}, (3.0,)), "stem", 3)) > 60


def test_fewer_bits_are_further_from_the_float_model() -> None:
    trials = made({}, (8.0, 4.0, 2.0))
    with torch.no_grad():
        expected = trials.module(**INPUTS)
    for layer in LAYERS:
        ratios = [sqnr_db(expected, output(trials, layer, bits)) for bits in (8, 4, 2)]
        assert ratios == sorted(ratios, reverse=True)


def test_the_patch_keeps_old_overrides_first_and_the_scheme_obeys_it() -> None:
    old = {"overrides": [{"layer": "first", "weights": {"bits": 8}}], "weights": {"bits": 4}}
    trials = made(old)
    levels = {trial.part: trial.level for trial in trials.trials}
    patch = trials.patch({**levels, "stem": None, "conv": 8.0})
    assert patch.fields["overrides"] == [
        {"layer": "first", "weights": {"bits": 8}},
        {"modules": "stem", "keep_float": True},
        {"modules": "conv", "weights": {"bits": 8}},
    ]
    assert patch.said == "1 of 4 layers stay in float, 1 get another width"
    edit = quantizers_for(float_model().module, EXAMPLE, Scheme.model_validate({**old, **patch.fields}))
    assert {name: site.bits for name, site in edit.weights.items()} == {
        "conv.weight": 8, "shortcut.weight": 4, "fc.weight": 4,
    }  # fmt: skip


def test_without_anything_to_change_or_to_keep_there_is_no_patch() -> None:
    trials = made({})
    levels = {trial.part: trial.level for trial in trials.trials}
    assert trials.patch(levels).fields == {}
    assert "nothing to change" in trials.patch(levels).said
    assert trials.patch(dict.fromkeys(levels)).fields == {}
    assert "raise it" in trials.patch(dict.fromkeys(levels)).said


@pytest.mark.parametrize("level", [1.0, 9.0, 4.5])
def test_a_width_that_there_is_not_is_refused(level: float) -> None:
    with pytest.raises(StageError, match="2 to 8 bits"):
        made({}, (level,))
