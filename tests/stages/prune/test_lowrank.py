"""The stage: its manual, its checks, and what it gives back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

import mcomp_stages.prune.lowrank as stage_module
from mcomp.errors import StageError
from mcomp.measure.macs import count_macs
from mcomp.model.edits import Masks
from mcomp.stage import Context
from mcomp_stages.methods.lowrank import gain
from mcomp_stages.methods.lowrank.gain import measured_speedup
from mcomp_stages.prune.channels import PruneChannels
from mcomp_stages.prune.lowrank import PruneLowRank
from tests.architectures import example
from tests.stages.prune.setting import context_in, model_of
from tests.stages.samples import sample_of


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return context_in(tmp_path)


def lowrank(**fields: Any) -> PruneLowRank:
    return PruneLowRank.model_validate({"type": "prune.lowrank", **fields})


def test_the_sample_in_the_manual_is_valid() -> None:
    assert PruneLowRank.model_validate(sample_of(stage_module)).target.macs == 0.5


def test_the_target_is_met_and_the_input_is_untouched(context: Context) -> None:
    model = model_of("vgg")
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    result = lowrank(target={"macs": 0.5}, round_to=2).run(model, context)
    assert result.model is not None
    share = count_macs(result.model.module, example()) / count_macs(model.module, example())
    assert 0.475 <= share <= 0.5
    assert result.facts["macs_share"] == pytest.approx(share, abs=1e-4)
    assert [edit.kind for edit in result.model.edits] == ["low_rank"]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.module.state_dict().items())


def test_parameters_may_be_the_target(context: Context) -> None:
    result = lowrank(target={"params": 0.6}, round_to=2).run(model_of("vgg"), context)
    assert 0.57 <= result.facts["params_share"] <= 0.6


def test_energy_gives_each_layer_its_rank(context: Context) -> None:
    result = lowrank(target={"energy": 0.5}, round_to=1).run(model_of("mlp"), context)
    assert result.facts["ranks"]
    assert result.facts["macs_share"] < 1


def test_given_ranks_are_taken_and_the_others_stay(context: Context) -> None:
    ranks = [{"match": "features.4", "ranks": [8, 8]}, {"match": "classifier.0", "ranks": [8]}]
    result = lowrank(ranks=ranks).run(model_of("vgg"), context)
    assert result.facts["ranks"] == {"features.4": [8, 8], "classifier.0": [8]}


def test_given_ranks_count_in_the_target(context: Context) -> None:
    ranks = [{"match": "features.8", "ranks": [8, 8]}]
    result = lowrank(target={"macs": 0.5}, ranks=ranks, round_to=2).run(model_of("vgg"), context)
    assert result.facts["ranks"]["features.8"] == [8, 8]
    assert 0.475 <= result.facts["macs_share"] <= 0.5


def test_layers_that_stay_are_named_with_the_reason(context: Context) -> None:
    masked = model_of("vgg").edited(Masks(names=("features.4.weight",)))
    ranks = [{"match": "features.8", "ranks": [24, 32]}, {"match": "features.0", "ranks": [3, 8]}]
    result = lowrank(ranks=ranks).run(masked, context)
    assert result.facts["ranks"] == {"features.0": [3, 8]}
    assert result.facts["left"]["features.4"].startswith("has masked weights")
    assert result.facts["left"]["features.8"] == "has no fewer multiply-adds at [24, 32]"


def test_what_is_slower_in_the_runtime_is_left(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    def pretended(layer: Any, *_: Any) -> float:
        return 0.8 if layer.weight.shape[0] == 32 else 1.5

    monkeypatch.setattr(gain, "measured_speedup", pretended)
    result = lowrank(target={"energy": 0.3}, round_to=2, measured=True).run(model_of("vgg"), context)
    assert "features.8" not in result.facts["ranks"]
    assert result.facts["left"]["features.8"].startswith("takes 1.25 times as long at [")
    assert "features.4" in result.facts["ranks"]


def test_a_layer_is_timed_beside_its_thin_layers(tmp_path: Path) -> None:
    convolution = torch.nn.Conv2d(64, 64, 3, padding=1)
    assert measured_speedup(convolution, (8, 8), (1, 64, 32, 32), tmp_path) > 1.5
    linear = torch.nn.Linear(256, 256)
    assert measured_speedup(linear, (128,), (1, 64, 256), tmp_path) < 1.5


def test_channels_may_be_cut_before_and_after(context: Context) -> None:
    cut = PruneChannels.model_validate({"target": {"macs": 0.7}, "round_to": 2, "min_channels": 2})
    narrow = cut.run(model_of("vgg"), context).model
    assert narrow is not None
    thin = lowrank(target={"macs": 0.7}, round_to=2).run(narrow, context).model
    assert thin is not None
    both = cut.run(thin, context)
    assert both.model is not None
    assert any(path.endswith((".reduce", ".core")) for path in both.facts["channels"])
    assert [edit.kind for edit in both.model.edits] == ["keep_channels", "low_rank", "keep_channels"]
    fresh = both.model.spec.build().eval()
    for edit in both.model.edits:
        edit.apply(fresh, {})
    fresh.load_state_dict(both.model.module.state_dict())
    with torch.no_grad():
        assert torch.equal(fresh(**example()), both.model.module.eval()(**example()))


def test_thin_models_recover(context: Context) -> None:
    recover = {"epochs": 1, "optimizer": {"type": "sgd", "lr": 0.01}}
    result = lowrank(target={"macs": 0.6}, round_to=2, recover=recover).run(model_of("vgg"), context)
    assert result.facts["epochs"] == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "say which ranks"),
        ({"target": {}}, "give exactly one of energy, macs, params, latency_ms, not none"),
        ({"target": {"macs": 0.5, "energy": 0.9}}, "not energy and macs"),
        ({"target": {"macs": 0}}, "greater than 0"),
        ({"target": {"macs": 1}}, "less than 1"),
        ({"target": {"energy": 1.5}}, "less than 1"),
        ({"target": {"macs": 0.5, "threads": 2}}, "only a latency is timed"),
        ({"ranks": [{"match": "fc", "ranks": [0]}]}, "greater than or equal to 1"),
    ],
)
def test_nonsense_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        lowrank(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ranks": [{"match": "classifier.0", "ranks": [41]}]}, "no ranks above 40, and is given"),
        ({"ranks": [{"match": "features.4", "ranks": [8]}]}, "takes two ranks"),
        ({"ranks": [{"match": "classifier.1", "ranks": [8]}]}, "nothing that matches 'classifier.1'"),
        ({"ranks": [{"match": "feature.4", "ranks": [8]}]}, "no module matches 'feature.4'"),
        ({"target": {"macs": 0.01}}, "cannot keep only 1.0% of the multiply-adds"),
        ({"target": {"energy": 0.99}}, "no layer was factorized"),
        ({"target": {"macs": 0.5}, "layers": ["classifier.1"]}, "no layer can be factorized"),
    ],
)
def test_what_the_model_cannot_do_is_refused(context: Context, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(StageError, match=message):
        lowrank(**fields).run(model_of("vgg"), context)


def test_a_model_in_which_nothing_can_be_factorized_says_why(context: Context) -> None:
    masked = model_of("vgg").edited(Masks(names=("classifier.0.weight",)))
    with pytest.raises(
        StageError,
        match=r"no layer can be factorized: classifier.0 .*has masked weights.*put prune.lowrank in front",
    ):
        lowrank(target={"macs": 0.5}, layers=["classifier.0"]).run(masked, context)
