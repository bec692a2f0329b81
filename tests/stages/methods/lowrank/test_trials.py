"""Layers factorized one by one, and the ranks that follow."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mcomp.errors import StageError
from mcomp.measure.macs import count_macs
from mcomp.measure.size import parameter_count
from mcomp.model.model import Model
from mcomp.sensitivity.trials import Trials
from mcomp_stages.prune.lowrank import PruneLowRank
from tests.architectures import example
from tests.stages.prune.setting import context_in, model_of

STAGE = PruneLowRank.model_validate(
    {"target": {"macs": 0.5}, "round_to": 1, "layers": ["features.4", "classifier.0"]}
)


def made(folder: Path, levels: tuple[float, ...] = ()) -> Trials:
    return STAGE.trials(model_of("vgg"), context_in(folder), levels)


def test_each_trial_saves_at_least_its_share_of_one_layer(tmp_path: Path) -> None:
    whole = model_of("vgg").module
    trials = made(tmp_path, (0.3, 0.6))
    assert [trial.part for trial in trials.trials] == ["features.4"] * 2 + ["classifier.0"] * 2
    for trial, asked in zip(trials.trials, (0.3, 0.6, 0.3, 0.6), strict=True):
        with trial.module() as module:
            other = "classifier.0" if trial.part == "features.4" else "features.4"
            assert torch.equal(module.get_submodule(other).weight, whole.get_submodule(other).weight)
            assert asked <= trial.level < asked + 0.1
            saved = count_macs(whole, example()) - count_macs(module, example())
            of_layer = macs_of(whole, trial.part)
            assert saved / of_layer == pytest.approx(trial.level, abs=1e-3)


def macs_of(module: torch.nn.Module, path: str) -> float:
    seen: list[float] = []
    layer = module.get_submodule(path)
    hook = layer.register_forward_hook(
        lambda part, inputs, output: seen.append(part.weight[0].numel() * output[0].numel())
    )
    module.eval()(**example())
    hook.remove()
    return seen[0]


def test_a_trial_equals_a_stage_with_these_ranks(tmp_path: Path) -> None:
    trial = made(tmp_path, (0.5,)).trials[-1]
    with trial.module() as module, torch.no_grad():
        rank = module.get_parameter("classifier.0.reduce.weight").shape[0]
        fields = {"target": None, "ranks": [{"match": "classifier.0", "ranks": [rank]}]}
        stage = PruneLowRank.model_validate({**STAGE.model_dump(), **fields})
        alone = stage.run(model_of("vgg"), context_in(tmp_path)).model
        assert alone is not None
        assert torch.equal(module(**example()), alone.module.eval()(**example()))


def test_the_patch_is_obeyed_by_the_stage_and_says_what_is_left(tmp_path: Path) -> None:
    trials = made(tmp_path, (0.5,))
    levels: dict[str, float | None] = {each.part: each.level for each in trials.trials}
    patch = trials.patch({**levels, "classifier.0": None})
    stage = PruneLowRank.model_validate({**STAGE.model_dump(), **patch.fields})
    result = stage.run(model_of("vgg"), context_in(tmp_path))
    assert list(result.facts["ranks"]) == ["features.4"]
    assert f"{result.facts['macs_share']:.1%} of the multiply-adds" in patch.said
    assert "1 of 2 layers" in patch.said
    assert trials.patch(dict.fromkeys(levels)).fields == {}


@pytest.mark.parametrize("level", [0.0, 1.0, 2.0])
def test_a_ratio_that_is_none_is_refused(level: float, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="between 0 and 1"):
        made(tmp_path, (level,))


def test_each_layer_is_timed_as_the_model_with_thin_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counting:
        """A clock that counts parameters."""

        def __init__(self, model: Model, *setting: object) -> None:
            self.whole_ms = float(parameter_count(model.module))

        def ms(self, model: Model) -> float:
            return float(parameter_count(model.module))

    monkeypatch.setattr("mcomp_stages.methods.latency_target.Stopwatch", Counting)
    trials = made(tmp_path)
    assert trials.timing is not None
    timing = trials.timing()
    for trial in trials.trials:
        with trial.module() as module:
            assert timing.ms(trial) == parameter_count(module) < timing.whole_ms
