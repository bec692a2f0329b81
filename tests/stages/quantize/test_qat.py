"""The stage quantize.qat."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from mcomp.errors import StageError
from mcomp.model.edits import Masks
from mcomp.training.config import SGD
from mcomp_stages.methods.distillation.config import DistilledTraining
from mcomp_stages.methods.quantization import compare
from mcomp_stages.quantize import qat
from mcomp_stages.quantize.qat import QuantizeQat
from tests.mcomp.training.setting import make_context, same, small_model, weights
from tests.stages.samples import sample_of

TRAINING = DistilledTraining(epochs=2, optimizer=SGD(lr=0.05))
QAT = QuantizeQat(training=TRAINING)


def test_the_sample_in_the_manual_is_valid() -> None:
    assert QuantizeQat.model_validate(sample_of(qat)).training.epochs == 2


def test_the_result_is_quantized_trained_and_equal_to_what_will_be_served() -> None:
    model, context = small_model(), make_context()
    before = weights(model)
    result = QAT.run(model, context)
    assert result.model is not None
    assert result.model.quantized
    assert same(before, weights(model))
    assert not same(before, weights(result.model))
    assert result.facts["weights"] == ["conv.weight", "fc.weight"]
    assert result.facts["activations"] == ["#image", "conv#conv2d_0", "#mean_0"]
    assert result.facts["converted"]["agreement"] >= 0.999
    assert result.facts["weight_bits"] == {"8": 2}
    assert result.facts["activation_bits"] == {"8": 3}


def test_ranges_come_from_calibration_and_follow_training_for_their_share_of_it() -> None:
    (moving, still) = (
        QuantizeQat(training=TRAINING, moving_ranges=share, calibration_batches=2).run(
            small_model(), make_context()
        )
        for share in (0.5, 0.0)
    )
    assert moving.model is not None
    assert still.model is not None
    image = make_context().data.split("calibration").batch(torch.arange(32)).inputs["image"]
    assert still.model.state["quantizers.#image.high"] == image.max()
    assert still.model.state["quantizers.#image.seen"] == 2
    assert moving.model.state["quantizers.#image.high"] != image.max()
    assert moving.model.state["quantizers.#image.updates_left"] == 0


def test_the_same_seed_gives_the_same_bytes() -> None:
    first, second = (QAT.run(small_model(), make_context()).model for _ in range(2))
    assert first is not None
    assert second is not None
    assert same(weights(first), weights(second))
    assert same(first.state, second.state)


def test_masked_weights_stay_zero() -> None:
    model = small_model().edited(Masks(names=("conv.weight",)))
    mask = torch.arange(9).reshape(3, 3).expand(4, 1, 3, 3) % 2 == 0
    model.state["masks.conv.weight"] = mask
    with torch.no_grad():
        model.module.get_parameter("conv.weight").mul_(mask)
    result = QAT.run(model, make_context())
    assert result.model is not None
    assert not result.model.module.get_parameter("conv.weight")[~mask].any()


def test_a_conversion_that_differs_fails_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "SMALLEST_AGREEMENT", 1.01)
    with pytest.raises(StageError, match="#image"):
        QAT.run(small_model(), make_context())


def test_a_pattern_without_a_match_is_an_error() -> None:
    config = QuantizeQat(training=TRAINING, keep_float=("cnov",))
    with pytest.raises(StageError, match="did you mean 'conv'"):
        config.run(small_model(), make_context())


def test_other_widths_and_grids_train_and_equal_what_will_be_served() -> None:
    scheme = {"weights": {"bits": 7}, "overrides": [{"layer": "last", "weights": {"bits": 4}}]}
    result = QuantizeQat.model_validate({"training": TRAINING, **scheme}).run(small_model(), make_context())
    assert result.facts["weight_bits"] == {"4": 1, "7": 1}
    assert result.facts["converted"]["agreement"] >= 0.999


def test_widths_that_no_grid_has_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"weights\.bits"):
        QuantizeQat.model_validate({"training": {"epochs": 1}, "weights": {"bits": 9}})
