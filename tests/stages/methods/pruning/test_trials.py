"""Channels cut in one place after the other, and the ratios that follow."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mcomp.errors import StageError
from mcomp.measure.size import parameter_count
from mcomp.model.model import Model
from mcomp.sensitivity.trials import Trials
from mcomp_stages.prune.channels import PruneChannels
from tests.architectures import example
from tests.stages.prune.setting import context_in, model_of


def stage(**fields: object) -> PruneChannels:
    return PruneChannels.model_validate({"target": {"macs": 0.5}, "round_to": 1, "min_channels": 1, **fields})


def made(name: str, folder: Path, levels: tuple[float, ...] = (), **fields: object) -> Trials:
    return stage(**fields).trials(model_of(name), context_in(folder), levels)


def test_each_trial_cuts_the_share_of_one_place_alone(tmp_path: Path) -> None:
    trials = made("vgg", tmp_path, (0.25, 0.5))
    parts = list(dict.fromkeys(trial.part for trial in trials.trials))
    assert parts == ["features.0", "features.4", "features.8", "classifier.0"]
    assert {trial.level for trial in trials.trials} == {0.25, 0.5}
    for trial in trials.trials:
        with trial.module() as module:
            cut = dict(module.named_modules())
            for part in parts:
                channels = cut[part].weight.shape[0]
                whole = dict(trials.module.named_modules())[part].weight.shape[0]
                share = trial.level if part == trial.part else 0.0
                assert channels == whole * (1 - share)


def test_a_trial_equals_a_stage_that_cuts_this_alone(tmp_path: Path) -> None:
    fields = {"layers": [{"match": "features.4", "ratio": 0.5}], "target": None}
    alone = stage(**fields).run(model_of("vgg"), context_in(tmp_path)).model
    assert alone is not None
    (trial,) = (each for each in made("vgg", tmp_path, (0.5,)).trials if each.part == "features.4")
    with trial.module() as module, torch.no_grad():
        assert torch.equal(module(**example()), alone.module.eval()(**example()))


def test_rounding_moves_ratios_and_leaves_out_what_removes_nothing(tmp_path: Path) -> None:
    trials = made("vgg", tmp_path, (0.1, 0.2, 0.5), round_to=8, min_channels=8)
    assert [trial.level for trial in trials.trials if trial.part == "features.0"] == [0.5]
    assert [trial.level for trial in trials.trials if trial.part == "features.8"] == [0.25, 0.5]


def test_the_patch_is_obeyed_by_the_stage_and_says_what_is_left(tmp_path: Path) -> None:
    trials = made("vgg", tmp_path, (0.25, 0.5))
    levels = {"features.0": None, "features.4": 0.5, "features.8": 0.25, "classifier.0": None}
    patch = trials.patch(levels)
    assert patch.fields["target"] is None
    assert [each["match"] for each in patch.fields["layers"]] == ["features.4", "features.8"]
    result = stage(**patch.fields).run(model_of("vgg"), context_in(tmp_path))
    assert result.facts["channels"] == {"features.4": [24, 12], "features.8": [32, 24]}
    assert f"{result.facts['macs_share']:.1%} of the multiply-adds" in patch.said
    assert "2 of 4 places" in patch.said


def test_where_nothing_can_be_cut_there_is_no_patch(tmp_path: Path) -> None:
    trials = made("vgg", tmp_path, (0.5,))
    assert trials.patch(dict.fromkeys(each.part for each in trials.trials)).fields == {}


@pytest.mark.parametrize("level", [0.0, 1.0, 8.0])
def test_a_ratio_that_is_none_is_refused(tmp_path: Path, level: float) -> None:
    with pytest.raises(StageError, match="between 0 and 1"):
        made("vgg", tmp_path, (level,))


def test_units_that_the_stage_leaves_are_not_tried(tmp_path: Path) -> None:
    trials = made("vgg", tmp_path, (0.5,), units=["neurons"])
    assert [trial.part for trial in trials.trials] == ["classifier.0"]


def test_each_place_is_timed_as_the_model_that_lacks_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counting:
        """A clock that counts parameters."""

        def __init__(self, model: Model, *setting: object) -> None:
            self.whole_ms = float(parameter_count(model.module))

        def ms(self, model: Model) -> float:
            return float(parameter_count(model.module))

    monkeypatch.setattr("mcomp_stages.methods.latency_target.Stopwatch", Counting)
    trials = made("vgg", tmp_path, (0.5,))
    assert trials.timing is not None
    timing = trials.timing()
    assert timing.whole_ms == parameter_count(trials.module)
    for trial in trials.trials:
        with trial.module() as module:
            assert timing.ms(trial) == parameter_count(module) < timing.whole_ms
