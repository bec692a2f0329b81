"""Heads of attention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mcomp_stages.prune.heads as stage_module
from mcomp.errors import StageError
from mcomp_stages.prune.heads import PruneHeads
from tests.stages.prune.setting import context_in, model_of
from tests.stages.samples import sample_of


def heads(**fields: Any) -> PruneHeads:
    return PruneHeads.model_validate({"type": "prune.heads", "importance": "l2", **fields})


def test_the_sample_in_the_manual_is_valid() -> None:
    assert PruneHeads.model_validate(sample_of(stage_module)).target.ratio == 0.25


@pytest.mark.parametrize("name", ["vit", "torch_transformer"])
def test_the_ratio_is_one_of_heads(tmp_path: Path, name: str) -> None:
    model = model_of(name)
    result = heads(target={"ratio": 0.5}).run(model, context_in(tmp_path))
    assert result.model is not None
    assert result.facts["groups_cut"] == 4  # of two layers with four heads each
    assert result.model.module.head.in_features == model.module.head.in_features


def test_every_layer_keeps_some_heads(tmp_path: Path) -> None:
    stage = heads(target={"ratio": 0.25}, keep_heads=3)
    channels = stage.run(model_of("vit"), context_in(tmp_path)).facts["channels"]
    assert channels == {f"blocks.{block}.attention.qkv": [96, 72] for block in (0, 1)}
    with pytest.raises(StageError, match=r"cannot keep only 50\.0% of the channels: 75\.0% is the smallest"):
        heads(target={"ratio": 0.5}, keep_heads=3).run(model_of("vit"), context_in(tmp_path))


def test_neurons_go_too_if_asked_to(tmp_path: Path) -> None:
    stage = heads(target={"ratio": 0.5}, neurons=True)
    channels = stage.run(model_of("vit"), context_in(tmp_path)).facts["channels"]
    assert {"blocks.0.mlp.0", "blocks.0.attention.qkv"} <= set(channels)
    assert "patches" not in channels


def test_heads_are_scored_by_the_loss(tmp_path: Path) -> None:
    stage = PruneHeads.model_validate({"target": {"ratio": 0.25}, "samples": 16})
    assert stage.run(model_of("vit"), context_in(tmp_path)).facts["groups_cut"] == 2


def test_a_model_without_attention_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no channel can be cut"):
        heads(target={"ratio": 0.5}).run(model_of("vgg"), context_in(tmp_path))
