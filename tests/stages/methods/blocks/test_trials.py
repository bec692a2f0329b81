"""Blocks left out one by one, and the blocks to skip that follow."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mcomp.errors import StageError
from mcomp.measure.size import parameter_count
from mcomp.model.model import Model
from mcomp.sensitivity.trials import Trials
from mcomp_stages.models.resnet import ResNetConfig
from mcomp_stages.prune.layers import PruneLayers
from tests.architectures import example
from tests.stages.prune.setting import context_in

STAGE = PruneLayers.model_validate({"target": {"blocks": 1}, "skip": ["layer2.1"]})
REMOVABLE = ["layer1.0", "layer1.1", "layer1.2", "layer2.2", "layer3.1", "layer3.2"]


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    config = ResNetConfig(depth=20, width=4, in_channels=3, num_classes=10)
    return Model(config.build(), config)


def made(model: Model, folder: Path, levels: tuple[float, ...] = ()) -> Trials:
    return STAGE.trials(model, context_in(folder), levels)


def test_each_trial_leaves_out_one_block(model: Model, tmp_path: Path) -> None:
    trials = made(model, tmp_path)
    assert [(each.part, each.level) for each in trials.trials] == [(path, 1.0) for path in REMOVABLE]
    for trial in trials.trials:
        with trial.module() as module:
            gone = parameter_count(trials.module.get_submodule(trial.part))
            assert parameter_count(module) == parameter_count(trials.module) - gone


def test_a_trial_equals_a_stage_that_leaves_this_block_out(model: Model, tmp_path: Path) -> None:
    stage = STAGE.model_copy(update={"blocks": ("layer2.2",), "skip": (), "importance": "magnitude"})
    alone = stage.run(model, context_in(tmp_path)).model
    assert alone is not None
    (trial,) = (each for each in made(model, tmp_path).trials if each.part == "layer2.2")
    with trial.module() as module, torch.no_grad():
        assert torch.equal(module(**example()), alone.module.eval()(**example()))


def test_blocks_that_cost_too_much_are_skipped_beside_those_that_were(model: Model, tmp_path: Path) -> None:
    trials = made(model, tmp_path)
    patch = trials.patch({**dict.fromkeys(REMOVABLE, 1.0), "layer1.0": None})
    assert patch.fields == {"skip": ["layer2.1", "layer1.0"]}
    assert "5 of 6 blocks can go" in patch.said


def test_where_every_block_can_go_or_none_there_is_no_patch(model: Model, tmp_path: Path) -> None:
    trials = made(model, tmp_path)
    assert trials.patch(dict.fromkeys(REMOVABLE, 1.0)).fields == {}
    nothing = trials.patch(dict.fromkeys(REMOVABLE))
    assert nothing.fields == {}
    assert "costs more than the limit" in nothing.said


def test_levels_are_refused(model: Model, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="a block goes as a whole"):
        made(model, tmp_path, (0.5,))


def test_each_block_is_timed_as_the_model_without_it(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counting:
        """A clock that counts parameters."""

        def __init__(self, model: Model, *setting: object) -> None:
            self.whole_ms = float(parameter_count(model.module))

        def ms(self, model: Model) -> float:
            return float(parameter_count(model.module))

    monkeypatch.setattr("mcomp_stages.methods.latency_target.Stopwatch", Counting)
    trials = made(model, tmp_path)
    assert trials.timing is not None
    timing = trials.timing()
    for trial in trials.trials:
        with trial.module() as module:
            assert timing.ms(trial) == parameter_count(module) < timing.whole_ms
