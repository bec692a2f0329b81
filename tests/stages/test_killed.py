"""Killed after anything that it kept, every stage goes on: to the same result, and with nothing done again.

What a stage finds when it begins anew is what it had kept when it was killed, so that kills after what it
keeps stand for kills at any moment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast
from unittest.mock import MagicMock

import pytest
import torch

from mcomp import plugins, progress
from mcomp.model.model import Model
from mcomp.recipe.schema import RecipeRef
from mcomp.stage import Checkpoint, Context, StageConfig, StageResult
from mcomp_stages.methods import latency_target
from mcomp_stages.methods.lowrank import gain
from mcomp_stages.models.resnet import ResNetConfig
from tests.mcomp.training.checkpoints import Memory
from tests.mcomp.training.setting import make_context, same, small_model
from tests.stages.methods.quantization.nets import with_statistics
from tests.stages.prune.setting import context_in, model_of

TEACHER = RecipeRef(recipe="teacher.yaml")
OFTEN = {"checkpoint": {"every_steps": 3}}
SLOWLY = {"optimizer": {"type": "sgd", "lr": 0.01}}
TRAINING = {"epochs": 2, **OFTEN, **SLOWLY}
FOLLOWING = {**TRAINING, "teachers": [TEACHER]}
RECOVER = {"epochs": 1, **OFTEN, **SLOWLY}
STEPS = {"steps": 2, "epochs": 1}
CUT = {"round_to": 4, "min_channels": 4}


@dataclass(frozen=True)
class Case:
    """A stage with its fields, and on what it works."""

    type: str
    fields: Mapping[str, Any]
    model: Callable[[], Model]


def resnet() -> Model:
    torch.manual_seed(0)
    config = ResNetConfig(depth=20, width=4, in_channels=1, num_classes=3)
    return Model(with_statistics(config.build()).eval(), config)


def net(name: str) -> Callable[[], Model]:
    return lambda: model_of(name)


CASES = {
    "train": Case("train", {"training": TRAINING}, small_model),
    "train-adamw-early-stop": Case(
        "train",
        {
            "training": {
                "epochs": 4,
                "optimizer": {"type": "adamw", "lr": 0.1},
                "early_stop": {"patience": 1},
                "gradients": {"bits": 4},
                **OFTEN,
            }
        },
        small_model,
    ),
    "offline": Case("distill.offline", {"teachers": [TEACHER], "training": TRAINING}, small_model),
    "offline-features": Case(
        "distill.offline",
        {
            "teachers": [TEACHER],
            "training": TRAINING,
            "loss": [
                {"type": "dist", "weight": {"start": 0.1, "end": 0.9}},
                {"type": "fitnet", "taps": [{"student": "conv", "teacher": "conv"}]},
                {"type": "crd"},
            ],
        },
        small_model,
    ),
    **{
        f"online-{method['type']}": Case(
            "distill.online", {"method": method, "peers": 3, "training": TRAINING}, small_model
        )
        for method in cast(
            list[dict[str, Any]], [{"type": "dml"}, {"type": "kdcl"}, {"type": "one", "branch": ["fc"]}]
        )
    },
    **{
        f"self-{method['type']}": Case("distill.self", {"method": method, "training": TRAINING}, small_model)
        for method in cast(
            list[dict[str, Any]],
            [
                {"type": "byot", "heads": ["conv"]},
                {"type": "ps_kd"},
                {"type": "born_again", "generations": 3},
            ],
        )
    },
    "channels-in-steps": Case(
        "prune.channels",
        {"importance": "taylor", "target": {"macs": 0.6}, "schedule": STEPS, "recover": RECOVER, **CUT},
        net("vgg"),
    ),
    "channels-timed": Case(
        "prune.channels",
        {"target": {"latency_ms": 0.045}, "schedule": STEPS, "recover": RECOVER, **CUT},
        net("vgg"),
    ),
    "filters": Case("prune.filters", {"target": {"macs": 0.6}, "recover": RECOVER, **CUT}, net("vgg")),
    "heads": Case("prune.heads", {"target": {"ratio": 0.25}, "recover": RECOVER}, net("vit")),
    "unstructured-rounds": Case(
        "prune.unstructured",
        {
            "sparsity": 0.5,
            "schedule": {"type": "iterative", "rounds": 2, "rewind": TEACHER},
            "recover": RECOVER,
        },
        small_model,
    ),
    "unstructured-gradual": Case(
        "prune.unstructured",
        {
            "sparsity": 0.5,
            "importance": "movement",
            "schedule": {"type": "gradual", "end": 0.7, "every": 2},
            "recover": TRAINING,
        },
        small_model,
    ),
    "nm": Case("prune.nm", {"skip": ["features.0"], "permute": True, "recover": RECOVER}, net("vgg")),
    **{
        f"hessian-{method}": Case(
            "prune.hessian",
            {"method": method, "sparsity": 0.5, "samples": 16, "recover": RECOVER},
            net("vgg"),
        )
        for method in ("obs", "wanda", "fisher")
    },
    **{
        f"learned-{penalty['type']}": Case(
            "prune.learned",
            {
                "penalty": {"strength": 0.1, **penalty},
                "training": TRAINING,
                "target": {"macs": 0.6},
                "recover": RECOVER,
                **CUT,
            },
            net("vgg"),
        )
        for penalty in cast(list[dict[str, Any]], [{"type": "group_lasso"}, {"type": "growing"}])
    },
    "lowrank": Case(
        "prune.lowrank", {"target": {"macs": 0.6}, "round_to": 2, "recover": RECOVER}, net("vgg")
    ),
    "lowrank-timed": Case(
        "prune.lowrank", {"target": {"latency_ms": 0.045}, "round_to": 2, "measured": True}, net("vgg")
    ),
    "layers-trial": Case(
        "prune.layers",
        {"importance": "trial", "target": {"blocks": 2}, "schedule": STEPS, "recover": RECOVER},
        resnet,
    ),
    "layers-timed": Case("prune.layers", {"target": {"latency_ms": 0.05}, "samples": 16}, resnet),
    "qat": Case("quantize.qat", {"training": FOLLOWING, "moving_ranges": 0.5}, small_model),
    "qat-learned": Case(
        "quantize.qat",
        {
            "weights": {"bits": 3},
            "activations": {"bits": 3},
            "method": {"type": "lsq+", "lr": 0.01},
            "training": TRAINING,
            "moving_statistics": 0.5,
        },
        small_model,
    ),
    "mixed-measured": Case(
        "quantize.mixed", {"budget": {"mean_bits": 5.0}, "training": TRAINING}, small_model
    ),
    "mixed-hessian": Case(
        "quantize.mixed",
        {"budget": {"mean_bits": 5.0}, "sensitivity": "hessian", "training": TRAINING},
        small_model,
    ),
    "binary": Case(
        "quantize.binary",
        {"activations": 2, "first_step": {"epochs": 1}, "first_layer": True, "training": FOLLOWING},
        small_model,
    ),
    "static": Case(
        "quantize.static",
        {
            "weights": {"bits": 3},
            "samples": 32,
            "equalize": True,
            "adaround": {"steps": 10},
            "bias_correction": True,
            "tolerance": {"drop": 0.0, "fallback": 8},
        },
        small_model,
    ),
    "static-blocks": Case(
        "quantize.static",
        {"weights": {"bits": 4}, "samples": 32, "adaround": {"per": "block", "steps": 10}},
        small_model,
    ),
    "static-smooth": Case(
        "quantize.static", {"weights": {"bits": 8}, "samples": 16, "smoothquant": {}}, net("eager")
    ),
    "dynamic": Case("quantize.dynamic", {"samples": 16, "operators": ["linear"]}, net("mlp")),
    "half": Case("quantize.half", {"samples": 16}, small_model),
    **{
        f"weights-{method}": Case(
            "quantize.weights", {"method": method, "bits": 4, "group_size": None, "samples": 16}, net("mlp")
        )
        for method in ("rtn", "hqq", "gptq", "awq")
    },
    **{
        # The file of export.safetensors is loaded anew, so its model must be one that is installed.
        name: Case(name, {}, resnet if name == "export.safetensors" else small_model)
        for name in plugins.installed("stages")
        if name.startswith("export.")
    },
}


# Those of which nothing else shows that they go on; all of them are `slow`.
QUICK = ("nm", "mixed-measured", "mixed-hessian", "binary", "self-born_again", "unstructured-rounds")


class Killed(BaseException):
    """The process ends."""


@dataclass
class Mortal(Memory):
    """Keeps so many things more, and the process ends."""

    lives: int = 1

    def save(self, label: str, checkpoint: Checkpoint) -> None:
        super().save(label, checkpoint)
        self.lives -= 1
        if self.lives == 0:
            raise Killed


def run(case: Case, kept: Memory, folder: Path) -> StageResult:
    folder.mkdir()
    model = case.model()
    stage = cast(type[StageConfig], plugins.load("stages", case.type)).model_validate(dict(case.fields))
    return stage.run(model, context_of(model, kept, folder))


def context_of(model: Model, kept: Memory, folder: Path) -> Context:
    context = context_in(folder) if model.spec.type == "net" else replace(make_context(), folder=folder)
    return replace(context, checkpoints=kept, reporter=MagicMock(), models={TEACHER: small_model(seed=5)})


@pytest.fixture(autouse=True)
def steady_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a model take as long as its file is large."""

    def timed(sessions: Mapping[str, Any], inputs: Any, rounds: int) -> dict[str, list[float]]:
        return {name: [1e-6 * each.path.stat().st_size] for name, each in sessions.items()}

    for module in (latency_target, gain):
        monkeypatch.setattr(module, "interleaved", timed)


@pytest.fixture(autouse=True)
def every_step_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no unit lose more than one step."""
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.0)


def test_every_stage_is_tried() -> None:
    assert {case.type for case in CASES.values()} == set(plugins.installed("stages"))


def killed_and_resumed(case: Case, every: int, folder: Path) -> tuple[StageResult, Memory]:
    """Return what a stage gives that is killed whenever it has kept `every` things more, and all it kept."""
    kept = Memory()
    for number in range(100):
        with suppress(Killed):
            return run(case, Mortal(kept.kept, every), folder / f"try-{number}"), kept
    raise AssertionError("the stage comes to no end")


def goes_on_to_the_same(case: Case, kills: int, folder: Path) -> None:
    undisturbed = Memory()
    whole = run(case, undisturbed, folder / "whole")
    every = max(1, counted(undisturbed).total() // kills)
    resumed, kept = killed_and_resumed(case, every, folder)
    require_same(resumed, whole)
    assert counted(kept) == counted(undisturbed)  # nothing was done again


@pytest.mark.parametrize("name", QUICK)
def test_killed_after_something_it_kept_a_stage_goes_on_to_the_same(name: str, tmp_path: Path) -> None:
    goes_on_to_the_same(CASES[name], 2, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_killed_again_and_again_every_stage_goes_on_to_the_same(case: Case, tmp_path: Path) -> None:
    goes_on_to_the_same(case, 6, tmp_path)


def counted(kept: Memory) -> Counter[str]:
    """Return how much was kept of each thing that was finished, or that trains."""
    return Counter(
        {label: len(states) for label, states in kept.kept.items() if not label.endswith("-steps")}
    )


def require_same(left: StageResult, right: StageResult) -> None:
    assert left.facts == right.facts
    assert {name: path.read_bytes() for name, path in left.files.items()} == {
        name: path.read_bytes() for name, path in right.files.items()
    }
    if left.model is None or right.model is None:
        assert left.model is right.model
        return
    assert left.model.edits == right.model.edits
    assert same(left.model.state, right.model.state)
    assert same(left.model.module.state_dict(), right.model.module.state_dict())
