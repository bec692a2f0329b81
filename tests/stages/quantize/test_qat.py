"""The stage quantize.qat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from mcomp import plugins
from mcomp.errors import StageError
from mcomp.model.checkpoint import load_model, save_model
from mcomp.model.edits import Masks
from mcomp.training.config import SGD
from mcomp_stages.methods.distillation.config import DistilledTraining
from mcomp_stages.methods.quantization import compare
from mcomp_stages.methods.quantization.edit import Quantizers
from mcomp_stages.quantize import qat
from mcomp_stages.quantize.qat import QuantizeQat
from tests.mcomp.training.setting import Quiet, SmallConfig, make_context, same, small_model, weights
from tests.stages.samples import sample_of

TRAINING = DistilledTraining(epochs=2, optimizer=SGD(lr=0.05))
QAT = QuantizeQat(training=TRAINING)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The architecture `small`, registered for one test."""
    monkeypatch.setattr(plugins, "decorated", {})
    plugins.model("small")(SmallConfig)


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


@pytest.mark.parametrize("scheme", [{}, {"weights": {"bits": 4}}, {"weights": {"bits": 2}}])
def test_masked_weights_stay_zero(scheme: dict[str, Any], tmp_path: Path, registered: None) -> None:
    model = small_model().edited(Masks(names=("conv.weight",)))
    mask = torch.arange(9).reshape(3, 3).expand(4, 1, 3, 3) % 2 == 0
    model.state["masks.conv.weight"] = mask
    with torch.no_grad():
        model.module.get_parameter("conv.weight").mul_(mask)
    result = QuantizeQat.model_validate({"training": TRAINING, **scheme}).run(model, make_context())
    assert result.model is not None
    save_model(result.model, tmp_path)
    for kept in (result.model, load_model(tmp_path)):
        assert not kept.module.get_parameter("conv.weight")[~mask].any()
        assert kept.module.get_parameter("conv.weight")[mask].any()


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


METHODS: tuple[dict[str, Any], ...] = (
    {"type": "minmax"},
    {"type": "fixed"},
    {"type": "fixed", "weights_from": {"type": "mse"}},
    {"type": "lsq", "lr": 1e-4},
    {"type": "lsq", "lr": 1e-4, "weight_decay": 0.01, "weights_from": {"type": "percentile"}},
    {"type": "lsq+", "lr": 1e-4},
    {"type": "pact"},
    {"type": "dorefa"},
)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: str(method["type"]))
def test_every_method_trains_at_every_width_and_equals_what_will_be_served(
    method: dict[str, Any], bits: int
) -> None:
    asked = {"training": TRAINING, "weights": {"bits": bits}, "activations": {"bits": bits}, "method": method}
    model = small_model()
    result = QuantizeQat.model_validate(asked).run(model, make_context())
    assert result.facts["converted"]["agreement"] >= 0.999
    assert method["type"] in result.facts["methods"]
    assert result.model is not None
    assert not same(weights(model), weights(result.model))


def test_without_a_method_only_grids_below_eight_bits_learn_their_steps() -> None:
    scheme = {"weights": {"bits": 4}, "overrides": [{"layer": "last", "weights": {"bits": 8}}]}
    result = QuantizeQat.model_validate({"training": TRAINING, **scheme}).run(small_model(), make_context())
    assert result.model is not None
    (edit,) = result.model.edits
    assert isinstance(edit, Quantizers)
    assert edit.methods == {"conv.weight": "lsq"}
    assert result.facts["methods"] == {"lsq": 1, "minmax": 4}


def test_learned_scales_start_where_the_observer_puts_them_and_move_at_their_own_rate() -> None:
    asked = {"weights": {"bits": 4}, "activations": {"bits": 4}, "observer": {"type": "minmax"}}
    scales = {}
    for lr in (1e-12, 0.001):
        method = {"type": "lsq", "lr": lr, "weights_from": {"type": "minmax"}}
        config = QuantizeQat.model_validate({"training": TRAINING, **asked, "method": method})
        result = config.run(small_model(), make_context()).model
        assert result is not None
        scales[lr] = result.state["quantizers.conv.weight.scale"]
    first = small_model().module.get_parameter("conv.weight").detach().abs().amax((1, 2, 3)) / 7
    assert torch.allclose(scales[1e-12], first)
    assert not torch.allclose(scales[0.001], first)


def test_a_scale_that_becomes_negative_stops_the_training_and_is_named() -> None:
    method = {"type": "lsq", "lr": 1e4}
    config = QuantizeQat.model_validate({"training": TRAINING, "weights": {"bits": 4}, "method": method})
    with pytest.raises(StageError, match=r"batch \d of 3: the learned scale became .*lower lr") as caught:
        config.run(small_model(), make_context())
    assert caught.value.module in {"#image", "conv.weight", "conv#conv2d_0", "#mean_0", "fc.weight"}


def test_statistics_of_batch_norm_stay_after_their_share_of_the_steps() -> None:
    shares = {}
    for share in (0.0, 0.5, 1.0):
        config = QuantizeQat(training=TRAINING, moving_statistics=share)
        model = config.run(small_model(), make_context()).model
        assert model is not None
        shares[share] = model.module.get_buffer("norm.running_mean")
    assert not shares[0.0].any()
    assert not torch.equal(shares[0.5], shares[1.0])
    assert shares[0.5].any()


def test_bits_are_lowered_one_part_after_the_other() -> None:
    asked = {"weights": {"bits": 2}, "lowering": [{"bits": 8, "epochs": 1}, {"bits": 4, "epochs": 1}]}
    context = make_context()
    result = QuantizeQat.model_validate({"training": TRAINING, **asked}).run(small_model(), context)
    assert [part["bits"] for part in result.facts["lowering"]] == [8, 4]
    assert result.facts["weight_bits"] == {"2": 2}
    assert isinstance(context.reporter, Quiet)
    totals = {"quantize-at-8-bits": 3, "quantize-at-4-bits": 3, "quantize": 6}
    assert context.reporter.totals == totals


@pytest.mark.parametrize("method", ["lsq", "dorefa"])
def test_methods_for_symmetric_weights_refuse_others(method: str) -> None:
    asked = {"weights": {"bits": 4, "symmetric": False}, "method": {"type": method}}
    with pytest.raises(StageError, match=r"conv: .*symmetric"):
        QuantizeQat.model_validate({"training": TRAINING, **asked}).run(small_model(), make_context())


def test_widths_that_no_grid_has_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"weights\.bits"):
        QuantizeQat.model_validate({"training": {"epochs": 1}, "weights": {"bits": 9}})


def test_layers_are_tried_alone_before_the_training_with_the_methods_own_grids() -> None:
    stage = QuantizeQat.model_validate({"training": {"epochs": 1}, "weights": {"bits": 4}})
    trials = stage.trials(small_model(), make_context(), (8.0, 3.0))
    layers = [each for each in trials.trials if "#" not in each.part]
    assert [(each.part, each.level) for each in layers] == [("conv", 8), ("conv", 3), ("fc", 8), ("fc", 3)]
    image = make_context().data.split("calibration").batch(torch.arange(8)).inputs
    with torch.no_grad():
        expected = trials.module(**image)
        errors = []
        for each in layers:
            with each.module() as module:
                errors.append((module(**image) - expected).abs().mean().item())
    assert errors[0] < errors[1]
    assert errors[2] < errors[3]
