"""The stage: its manual, its checks, and what it gives back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

import mcomp_stages.prune.layers as stage_module
from mcomp.errors import StageError
from mcomp.measure.macs import count_macs
from mcomp.model.model import Model
from mcomp.stage import Context
from mcomp_stages.methods.latency_target import Stopwatch
from mcomp_stages.models.resnet import ResNetConfig
from mcomp_stages.prune.channels import PruneChannels
from mcomp_stages.prune.layers import PruneLayers
from mcomp_stages.prune.lowrank import PruneLowRank
from tests.architectures import example
from tests.stages.prune.setting import context_in, model_of
from tests.stages.samples import sample_of

RECOVER = {"epochs": 1, "optimizer": {"type": "sgd", "lr": 0.01}}


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return context_in(tmp_path)


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    config = ResNetConfig(depth=20, width=4, in_channels=3, num_classes=10)
    return Model(config.build().eval(), config)


def layers(target: dict[str, float], **fields: Any) -> PruneLayers:
    return PruneLayers.model_validate({"target": target, "samples": 16, **fields})


def test_the_sample_in_the_manual_is_valid() -> None:
    assert PruneLayers.model_validate(sample_of(stage_module)).target.blocks == 8


@pytest.mark.parametrize("importance", ["influence", "magnitude", "trial", "random"])
def test_the_blocks_of_the_lowest_scores_go(model: Model, context: Context, importance: str) -> None:
    result = layers({"blocks": 3}, importance=importance).run(model, context)
    assert result.model is not None
    scores = result.facts["scores"]
    assert result.facts["removed"] == sorted(scores, key=scores.__getitem__)[:3]
    assert result.facts["blocks"] == 7
    assert model.edits == ()
    share = count_macs(result.model.module, example()) / count_macs(model.module, example())
    assert result.facts["macs_share"] == pytest.approx(share, abs=1e-4)


@pytest.mark.parametrize("quantity", ["macs", "params"])
def test_no_more_blocks_go_than_a_share_asks_for(model: Model, context: Context, quantity: str) -> None:
    result = layers({quantity: 0.7}).run(model, context)
    assert result.facts[f"{quantity}_share"] <= 0.7
    one_fewer = layers({"blocks": len(result.facts["removed"]) - 1}).run(model, context)
    assert one_fewer.facts[f"{quantity}_share"] > 0.7


def test_blocks_may_go_in_portions(model: Model, context: Context) -> None:
    stage = layers({"blocks": 3}, schedule={"steps": 2}, recover=RECOVER)
    result = stage.run(model, context)
    assert result.model is not None
    assert [len(edit.blocks) for edit in result.model.edits] == [2, 1]  # type: ignore[attr-defined]
    assert len(set(result.facts["removed"])) == 3
    assert result.facts["epochs"] == 1


def test_portions_of_a_share_reach_it(model: Model, context: Context) -> None:
    result = layers({"macs": 0.6}, schedule={"steps": 2}).run(model, context)
    assert result.facts["macs_share"] <= 0.6


def test_a_latency_takes_as_few_blocks_as_it_can(
    model: Model, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def macs(watch: Stopwatch, model: Model) -> float:
        return count_macs(model.module, example()) / 1e6

    monkeypatch.setattr(Stopwatch, "ms", macs)
    monkeypatch.setattr(
        Stopwatch, "__post_init__", lambda watch: setattr(watch, "whole_ms", watch.ms(watch.model))
    )
    limit = 0.75 * count_macs(model.module, example()) / 1e6
    result = layers({"latency_ms": limit}).run(model, context)
    assert result.model is not None
    assert result.facts["latency"]["reached_ms"] <= limit
    assert result.facts["removed"] == layers({"macs": 0.75}).run(model, context).facts["removed"]
    with pytest.raises(StageError, match=r"without all 7 blocks .* the model takes"):
        layers({"latency_ms": 1e-9}).run(model, context)
    with pytest.raises(StageError, match=r"nothing was cut: the model takes"):
        layers({"latency_ms": 1e9}).run(model, context)


def test_cuts_of_blocks_channels_and_ranks_compose(model: Model, context: Context) -> None:
    narrow = {"target": {"macs": 0.8}, "round_to": 1, "min_channels": 1}
    stages = (
        PruneChannels.model_validate(narrow),
        layers({"blocks": 2}),
        PruneLowRank.model_validate({"target": {"macs": 0.8}, "round_to": 1}),
        layers({"blocks": 1}),
        PruneChannels.model_validate(narrow),
    )
    current = model
    for stage in stages:
        result = stage.run(current, context).model
        assert result is not None
        current = result
    fresh, state = current.spec.build().eval(), dict[str, torch.Tensor]()
    for edit in current.edits:
        edit.apply(fresh, state)
    fresh.load_state_dict(current.module.state_dict())
    with torch.no_grad():
        assert torch.equal(fresh(**example()), current.module.eval()(**example()))


@pytest.mark.parametrize(
    ("target", "fields", "message"),
    [
        ({}, {}, "give exactly one of blocks, macs, params, latency_ms"),
        ({"blocks": 0}, {}, "greater than or equal to 1"),
        ({"macs": 1.0}, {}, "less than 1"),
        ({"latency_ms": 1}, {"schedule": {"steps": 2}}, "needs a target of blocks, macs or params"),
        ({"blocks": 1}, {"schedule": {"steps": 2, "epochs": 1}}, "there is none"),
    ],
)
def test_nonsense_is_refused(target: dict[str, float], fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        layers(target, **fields)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"blocks": 8}, r"cannot leave out 8 blocks: only 7 can be \(layer.*, .* and 4 more\)"),
        ({"macs": 0.05}, r"cannot keep only 5.0% of the macs: without all 7 blocks"),
    ],
)
def test_more_than_there_is_is_refused(
    model: Model, context: Context, target: dict[str, float], message: str
) -> None:
    with pytest.raises(StageError, match=message):
        layers(target).run(model, context)


def test_a_model_without_blocks_is_told_what_a_block_is(context: Context) -> None:
    with pytest.raises(StageError, match=r"only 0 can be \(none\); a block runs once"):
        layers({"blocks": 1}).run(model_of("vgg"), context)
