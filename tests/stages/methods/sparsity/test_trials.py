"""Layers made sparse one by one, and the layers to skip that follow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mcomp.errors import StageError
from mcomp.sensitivity.trials import Trials
from mcomp.stage import StageConfig
from mcomp_stages.prune.hessian import PruneHessian
from mcomp_stages.prune.nm import PruneNm
from mcomp_stages.prune.unstructured import PruneUnstructured
from tests.architectures import example
from tests.stages.prune.setting import context_in, model_of

LAYERS = ["features.4", "classifier.0"]
SMALL: dict[str, Any] = {"layers": LAYERS}
STAGES: dict[str, StageConfig] = {
    "unstructured": PruneUnstructured.model_validate({**SMALL, "sparsity": 0.5}),
    "kernels": PruneUnstructured.model_validate({**SMALL, "sparsity": 0.5, "unit": "kernel", "biases": True}),
    "nm": PruneNm.model_validate({**SMALL, "keep": 2, "of": 4}),
    "obs": PruneHessian.model_validate({**SMALL, "sparsity": 0.5, "samples": 16}),
    "wanda 2:4": PruneHessian.model_validate(
        {**SMALL, "method": "wanda", "pattern": {"keep": 2, "of": 4}, "samples": 16}
    ),
    "fisher": PruneHessian.model_validate({**SMALL, "method": "fisher", "sparsity": 0.5, "samples": 8}),
}


def made(name: str, folder: Path, levels: tuple[float, ...] = (0.75,)) -> Trials:
    return STAGES[name].trials(model_of("vgg"), context_in(folder), levels)


def share_of_zeros(weight: torch.Tensor) -> float:
    return 1 - float(weight.count_nonzero()) / weight.numel()


@pytest.mark.parametrize("name", STAGES)
def test_each_trial_has_its_share_of_zeros_in_one_layer_alone(name: str, tmp_path: Path) -> None:
    trials = made(name, tmp_path)
    assert [(each.part, each.level) for each in trials.trials] == [
        (layer, share) for layer in LAYERS for share in (0.5, 0.75)
    ]
    for trial in trials.trials:
        with trial.module() as module:
            assert not module.training
            for layer, expected in trials.module.named_modules():
                if isinstance(expected, torch.nn.Linear | torch.nn.Conv2d):
                    weight = module.get_submodule(layer).weight
                    if layer == trial.part:
                        assert share_of_zeros(weight) == pytest.approx(trial.level, abs=0.02)
                    else:
                        assert torch.equal(weight, expected.weight)


@pytest.mark.parametrize("name", ["unstructured", "nm", "obs", "wanda 2:4"])
def test_a_trial_equals_a_stage_that_prunes_this_layer_alone(name: str, tmp_path: Path) -> None:
    stage = STAGES[name].model_copy(update={"layers": ("classifier.0",)})
    alone = stage.run(model_of("vgg"), context_in(tmp_path)).model
    assert alone is not None
    (trial,) = (
        each for each in made(name, tmp_path).trials if each.part == "classifier.0" and each.level == 0.5
    )
    with trial.module() as module, torch.no_grad():
        assert torch.equal(module(**example()), alone.module.eval()(**example()))


def test_layers_that_do_not_bear_the_stages_share_are_skipped_beside_those_that_were(tmp_path: Path) -> None:
    stage = STAGES["unstructured"].model_copy(update={"skip": ("features.0",), "layers": None})
    trials = stage.trials(model_of("vgg"), context_in(tmp_path), (0.9,))
    levels: dict[str, float | None] = dict.fromkeys({each.part for each in trials.trials}, 0.9)
    levels |= {"features.4": None, "classifier.0": 0.5}
    patch = trials.patch(levels)
    assert patch.fields == {"skip": ["features.0", "features.4"]}
    assert f"1 of {len(levels)} layers" in patch.said
    patched = type(stage).model_validate({**stage.model_dump(exclude_unset=True), **patch.fields})
    assert (
        patched.run(model_of("vgg"), context_in(tmp_path))
        .facts["zeros"]
        .keys()
        .isdisjoint({"features.0.weight", "features.4.weight"})
    )


@pytest.mark.parametrize(("level", "said"), [(0.5, "nothing to change"), (None, "no layer bears 50% zeros")])
def test_all_or_no_layers_are_no_patch(level: float | None, said: str, tmp_path: Path) -> None:
    patch = made("nm", tmp_path).patch(dict.fromkeys(LAYERS, level))
    assert patch.fields == {}
    assert said in patch.said


@pytest.mark.parametrize(
    ("name", "level", "told"),
    [
        ("unstructured", 0.0, "between 0 and 1, not 0"),
        ("obs", 1.5, "between 0 and 1, not 1.5"),
        ("nm", 0.6, "of 4 neighbours no whole number is 0.6"),
        ("wanda 2:4", 1.0, "of 4 neighbours no whole number is 1"),
    ],
)
def test_shares_that_are_none_are_refused(name: str, level: float, told: str, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=told):
        made(name, tmp_path, (level,))


def test_movement_cannot_be_tried(tmp_path: Path) -> None:
    fields = {"sparsity": 0.5, "importance": "movement", "schedule": {"type": "gradual"}}
    stage = PruneUnstructured.model_validate({**fields, "recover": {"epochs": 1}})
    with pytest.raises(StageError, match="movement is seen while training"):
        stage.trials(model_of("vgg"), context_in(tmp_path), ())
