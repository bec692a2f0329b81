"""The stage: its manual, its checks, and every penalty from training to the cut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import mcomp_stages.prune.learned as stage_module
from mcomp.model.model import Model
from mcomp.stage import Context
from mcomp_stages.prune.channels import PruneChannels
from mcomp_stages.prune.learned import PruneLearned
from tests.mcomp.training.checkpoints import Memory, interrupted_at, terminate
from tests.mcomp.training.setting import same
from tests.stages.prune.setting import context_in, model_of
from tests.stages.samples import sample_of

CUT = {"target": {"macs": 0.5}, "round_to": 4, "min_channels": 4, "normalization": "none"}


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return context_in(tmp_path)


def prune(**fields: Any) -> PruneLearned:
    base = {"type": "prune.learned", "training": {"epochs": 2}, **CUT}
    return PruneLearned.model_validate({**base, **fields})


def test_the_sample_in_the_manual_is_valid() -> None:
    assert PruneLearned.model_validate(sample_of(stage_module)).penalty.type == "group_lasso"


@pytest.mark.parametrize(
    "penalty",
    [
        {"type": "l1", "strength": 0.1},
        {"type": "l2", "strength": 1.0},
        {"type": "group_lasso", "strength": 0.1},
    ],
)
def test_every_penalty_lowers_the_scores_and_the_cut_meets_its_target(
    context: Context, penalty: dict[str, Any]
) -> None:
    result = prune(penalty=penalty).run(model_of("vgg"), context)
    assert result.model is not None
    assert [edit.kind for edit in result.model.edits] == ["keep_channels"]
    assert 0.45 <= result.facts["macs_share"] <= 0.5
    scores = result.facts["group_scores"]
    assert len(scores["before"]) == len(scores["after"]) == 41
    assert sum(scores["after"]) < sum(scores["before"])
    assert result.facts["penalized"]["best_epoch"] == 2


def test_slimming_is_scored_by_norms(context: Context) -> None:
    penalty = {"type": "slimming", "strength": 0.2, "ramp": 0.0}
    facts = prune(penalty=penalty, importance="bn_scale").run(model_of("vgg"), context).facts
    assert facts["group_scores"]["after"][0] < facts["group_scores"]["before"][0] == 1.0


def test_a_growing_penalty_trains_towards_a_cut_chosen_before(context: Context) -> None:
    model = model_of("vgg")
    result = prune(penalty={"type": "growing", "strength": 20.0}).run(model, context)
    at_once = PruneChannels.model_validate({"type": "prune.channels", **CUT}).run(model, context)
    assert result.model is not None
    assert at_once.model is not None
    assert result.model.edits == at_once.model.edits
    scores = result.facts["group_scores"]
    assert scores["after"][0] < 0.5 * scores["before"][0]


def test_what_is_left_is_trained(context: Context) -> None:
    facts = (
        prune(penalty={"type": "l2", "strength": 1.0}, recover={"epochs": 1})
        .run(model_of("vgg"), context)
        .facts
    )
    assert len(facts["history"]) == 1
    assert len(facts["penalized"]["history"]) == 2


@pytest.mark.parametrize("penalty", ["l1", "growing"])
def test_what_was_interrupted_goes_on_to_the_same_bytes(
    context: Context, penalty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = prune(penalty={"type": penalty, "strength": 0.1}, recover={"epochs": 1})

    def run(memory: Memory) -> Any:
        return stage.run(model_of("vgg"), replace(context, checkpoints=memory))

    whole, memory = run(Memory()), Memory()
    for update in (5, 4):  # in the training with the penalty, then in that of what is left
        assert interrupted_at(update, terminate, lambda: run(memory), monkeypatch) is None
    resumed = run(memory)
    assert resumed.facts == whole.facts
    assert equal(resumed.model, whole.model)


def equal(left: Model, right: Model) -> bool:
    return same(left.module.state_dict(), right.module.state_dict()) and left.edits == right.edits


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"penalty": {"type": "slimming", "strength": 0.1}}, "set importance: bn_scale"),
        (
            {
                "penalty": {"type": "growing", "strength": 1},
                "schedule": {"steps": 2},
                "recover": {"epochs": 1},
            },
            "leave schedule out",
        ),
        ({"penalty": {"type": "l1", "strength": 0.0}}, "greater than 0"),
        ({"penalty": {"type": "l3", "strength": 0.1}}, "'l1', 'l2', 'group_lasso', 'slimming', 'growing'"),
        ({"penalty": {"type": "l1", "strength": 0.1, "ramp": 1.5}}, "less than or equal to 1"),
        ({"penalty": {"type": "group_lasso", "strength": 0.1, "groups": "heads"}}, "'coupled', 'filters'"),
    ],
)
def test_mistakes_in_the_fields_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        prune(**fields)
