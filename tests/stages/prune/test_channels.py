"""The stage: its manual, its checks, and what it gives back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

import mcomp_stages.prune.channels as stage_module
from mcomp.errors import StageError
from mcomp.stage import Context, Form
from mcomp_stages.prune.channels import PruneChannels
from tests.architectures import example
from tests.stages.prune.setting import context_in, model_of
from tests.stages.samples import sample_of


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return context_in(tmp_path)


def prune(**fields: Any) -> PruneChannels:
    return PruneChannels.model_validate({"type": "prune.channels", **fields})


def test_the_sample_in_the_manual_is_valid() -> None:
    assert PruneChannels.model_validate(sample_of(stage_module)).target.macs == 0.5


def test_the_cut_model_is_smaller_and_the_input_is_untouched(context: Context) -> None:
    model = model_of("vgg")
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    result = prune(target={"macs": 0.5}, round_to=4, min_channels=4).run(model, context)
    assert result.model is not None
    assert [edit.kind for edit in result.model.edits] == ["keep_channels"]
    assert sum(p.numel() for p in result.model.module.parameters()) < sum(p.numel() for p in before.values())
    assert model.edits == ()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.module.state_dict().items())


def test_facts_say_what_stays_of_each_layer(context: Context) -> None:
    result = prune(target={"macs": 0.5}, round_to=4, min_channels=4).run(model_of("vgg"), context)
    assert result.model is not None
    assert 0.475 <= result.facts["macs_share"] <= 0.5
    for path, (before, after) in result.facts["channels"].items():
        assert len(result.model.module.get_submodule(path).weight) == after < before


def test_skipped_layers_keep_their_width(context: Context) -> None:
    stage = prune(target={"params": 0.6}, round_to=4, min_channels=4, skip=["features.0"])
    result = stage.run(model_of("vgg"), context)
    assert result.model is not None
    assert result.model.module.get_submodule("features.0").out_channels == 16
    assert "features.0" not in result.facts["channels"]


def test_unknown_operators_are_warned_about(context: Context) -> None:
    prune(target={"ratio": 0.5}).run(model_of("sorting"), context)
    context.reporter.warn.assert_called_once()
    assert "aten.cumsum.default" in context.reporter.warn.call_args.args[0]


def test_the_same_seed_gives_the_same_random_cut(context: Context) -> None:
    stage = prune(importance="random", target={"ratio": 0.5})
    first, second = (stage.run(model_of("vgg"), context).model for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.edits == second.edits


def test_a_second_cut_composes_with_the_first(context: Context) -> None:
    stage = prune(target={"macs": 0.7}, round_to=2, min_channels=2)
    once = stage.run(model_of("vgg"), context).model
    assert once is not None
    twice = stage.run(once, context).model
    assert twice is not None
    fresh = twice.spec.build().eval()
    for edit in twice.edits:
        edit.apply(fresh, {})
    fresh.load_state_dict(twice.module.state_dict())
    with torch.no_grad():
        assert torch.equal(fresh(**example()), twice.module.eval()(**example()))


def test_layers_may_lose_a_fixed_share(context: Context) -> None:
    layers = [{"match": "features.*", "ratio": 0.5}, {"match": "features.4", "ratio": 0.25, "round_to": 2}]
    result = prune(layers=layers, min_channels=4).run(model_of("vgg"), context)
    assert result.facts["channels"]["features.0"] == [16, 8]
    assert result.facts["channels"]["features.4"] == [24, 18]
    assert result.facts["channels"]["features.8"] == [32, 16]
    assert "classifier.0" not in result.facts["channels"]


def test_units_restrict_what_is_cut(context: Context) -> None:
    stage = prune(target={"ratio": 0.1}, units=["neurons"], nearest=True)
    result = stage.run(model_of("vgg"), context)
    assert list(result.facts["channels"]) == ["classifier.0"]


@pytest.mark.parametrize("importance", ["taylor", "obd", "apoz", "fpgm", "bn_scale"])
def test_every_importance_runs_on_calibration_samples(context: Context, importance: str) -> None:
    result = prune(importance=importance, samples=16, target={"ratio": 0.3}).run(model_of("vgg"), context)
    assert result.facts["groups_cut"] > 0
    context.reporter.warn.assert_not_called()


def test_layers_without_a_score_stay_and_are_named(context: Context) -> None:
    stage = prune(importance="bn_scale", target={"ratio": 0.2}, nearest=True, min_channels=4, round_to=4)
    with pytest.raises(StageError, match=r"no channel can be cut: .* or has no score"):
        stage.run(model_of("unet"), context)
    assert "bn_scale has no score for down1, down2, bottom and 3 more" in str(
        context.reporter.warn.call_args_list
    )


def test_recovery_trains_the_cut_model(context: Context) -> None:
    target = {"macs": 0.5}
    cut = prune(target=target).run(model_of("vgg"), context)
    recovered = prune(target=target, recover={"epochs": 1}).run(model_of("vgg"), context)
    assert cut.model is not None
    assert recovered.model is not None
    assert recovered.model.edits == cut.model.edits
    assert recovered.facts.items() > cut.facts.items()
    weight = "features.0.weight"
    assert not torch.equal(
        recovered.model.module.get_parameter(weight), cut.model.module.get_parameter(weight)
    )


def test_a_wrong_cut_never_leaves_the_stage(context: Context) -> None:
    with pytest.raises(StageError, match="may hold a fixed size"):
        prune(target={"ratio": 0.5}).run(model_of("fixed_size"), context)


def test_an_unreachable_target_is_an_error(context: Context) -> None:
    with pytest.raises(StageError, match="smallest reachable share"):
        prune(target={"macs": 0.01}).run(model_of("vgg"), context)


def test_only_a_trained_float_model_is_accepted() -> None:
    assert dict(PruneChannels.forms) == {Form.FLOAT: Form.FLOAT}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"target": {}}, "give exactly one of macs, params, ratio"),
        ({"target": {"macs": 1.5}}, "less than 1"),
        ({"target": {"macs": 0.5}, "importance": "l3"}, "'l1', 'l2', 'fpgm'"),
        ({"target": {"macs": 0.5}, "round_to": 0}, "greater than or equal to 1"),
        ({}, "say how much to cut"),
        ({"layers": [{"match": "features.0", "ratio": 1.0}]}, "less than 1"),
        ({"target": {"ratio": 0.0}}, "greater than 0"),
        ({"target": {"ratio": 0.5}, "units": []}, "at least 1"),
        ({"target": {"ratio": 0.5}, "scope": "uniform", "normalization": "lamp"}, "leave normalization out"),
    ],
)
def test_mistakes_in_the_fields_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        prune(**fields)


def test_the_configuration_loads_no_torch() -> None:
    code = "import sys, mcomp_stages.prune.channels; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
