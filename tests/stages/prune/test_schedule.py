"""Targets that are reached in several cuts with training between."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mcomp.errors import StageError
from mcomp.measure.macs import count_macs
from mcomp.stage import Context
from mcomp_stages.methods.latency_target import Stopwatch
from mcomp_stages.prune.channels import PruneChannels
from tests.architectures import example
from tests.stages.prune.setting import context_in, model_of

RECOVER = {"epochs": 1, "optimizer": {"type": "sgd", "lr": 0.01}}


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return context_in(tmp_path)


def in_steps(steps: int, target: Mapping[str, float], **fields: Any) -> PruneChannels:
    given = {"round_to": 2, "min_channels": 2, "recover": RECOVER, "schedule": {"steps": steps}}
    return PruneChannels.model_validate({"target": target, **given, **fields})


@pytest.mark.parametrize("target", [{"macs": 0.5}, {"params": 0.4}, {"ratio": 0.4}])
def test_steps_together_reach_the_target(context: Context, target: dict[str, float]) -> None:
    result = in_steps(3, target).run(model_of("vgg"), context)
    name, share = next(iter(target.items()))
    keep = 1 - share if name == "ratio" else share
    reached = result.facts["channels_share" if name == "ratio" else f"{name}_share"]
    assert 0.9 * keep <= reached <= keep + 1e-4
    assert len(result.facts["steps"]) == 3
    assert result.model is not None
    assert [edit.kind for edit in result.model.edits] == ["keep_channels"] * 3


def test_each_step_cuts_about_the_same_share_of_what_is_left(context: Context) -> None:
    result = in_steps(2, {"macs": 0.5}).run(model_of("vgg"), context)
    assert result.facts["steps"] == [pytest.approx(0.5**0.5, abs=0.04)] * 2


def test_facts_go_from_the_first_model_to_the_last(context: Context) -> None:
    model = model_of("vgg")
    result = in_steps(2, {"macs": 0.4}).run(model, context)
    assert result.model is not None
    for path, (before, after) in result.facts["channels"].items():
        assert len(model.module.get_parameter(f"{path}.weight")) == before
        assert len(result.model.module.get_parameter(f"{path}.weight")) == after
    share = count_macs(result.model.module, example()) / count_macs(model.module, example())
    assert result.facts["macs_share"] == pytest.approx(share, abs=1e-3)


def test_epochs_between_cuts_may_be_fewer(context: Context) -> None:
    recover = {**RECOVER, "epochs": 2}
    stage = in_steps(2, {"macs": 0.5}, recover=recover, schedule={"steps": 2, "epochs": 1})
    labels: list[tuple[str, int]] = []
    progress = context.reporter.progress
    progress.side_effect = lambda label, total: (labels.append((label, total)), progress.return_value)[1]
    stage.run(model_of("vgg"), context)
    assert labels == [("recover_1", 4), ("recover", 8)]


def test_given_ratios_go_with_the_first_step(context: Context) -> None:
    layers = [{"match": "features.8", "ratio": 0.5}]
    result = in_steps(3, {"macs": 0.5}, layers=layers).run(model_of("vgg"), context)
    assert result.facts["channels"]["features.8"] == [32, 16]


def test_no_layer_loses_more_than_the_largest_share_in_all_steps(context: Context) -> None:
    result = in_steps(3, {"macs": 0.6}, max_ratio=0.5).run(model_of("vgg"), context)
    assert all(after >= before / 2 for before, after in result.facts["channels"].values())


def test_a_target_out_of_reach_fails_before_anything_trains(context: Context) -> None:
    with pytest.raises(StageError, match=r"cannot keep only 1.0% of the multiply-adds"):
        in_steps(4, {"macs": 0.01}).run(model_of("vgg"), context)
    context.reporter.progress.assert_not_called()


def test_a_latency_is_approached_in_steps(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    def parameters(watch: Stopwatch, model: Any) -> float:
        return 1e-6 * sum(each.numel() for each in model.module.parameters())

    monkeypatch.setattr(Stopwatch, "ms", parameters)
    monkeypatch.setattr(
        Stopwatch, "__post_init__", lambda watch: setattr(watch, "whole_ms", watch.ms(watch.model))
    )
    result = in_steps(3, {"latency_ms": 0.009}).run(model_of("vgg"), context)
    assert result.model is not None
    assert sum(each.numel() for each in result.model.module.parameters()) <= 9000
    assert len(result.facts["steps"]) == 3
    assert result.facts["latency"]["reached_ms"] <= 0.009


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"target": {"macs": 0.5}, "schedule": {"steps": 2}}, "needs a target, and recover"),
        ({"layers": [{"match": "*", "ratio": 0.5}], "schedule": {"steps": 2}, "recover": RECOVER}, "needs a"),
        ({"target": {"macs": 0.5}, "schedule": {"steps": 0}}, "greater than or equal to 1"),
    ],
)
def test_nonsense_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PruneChannels.model_validate(fields)
