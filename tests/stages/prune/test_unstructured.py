"""The stage: its manual, its checks, its schedules, and zeros that survive what follows."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

import mcomp_stages.prune.unstructured as stage_module
from mcomp.errors import StageError
from mcomp.model.checkpoint import load_model, save_model
from mcomp.model.model import Model
from mcomp.recipe.schema import RecipeRef
from mcomp.stage import Context
from mcomp_stages.prune.channels import PruneChannels
from mcomp_stages.prune.unstructured import PruneUnstructured
from mcomp_stages.quantize.qat import QuantizeQat
from tests.stages.prune.setting import context_in, model_of
from tests.stages.samples import sample_of


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return context_in(tmp_path)


def prune(**fields: Any) -> PruneUnstructured:
    return PruneUnstructured.model_validate({"type": "prune.unstructured", "sparsity": 0.8, **fields})


def zeros(model: Model) -> dict[str, int]:
    """Return the number of zeros of each masked weight, after making sure that the mask has as many."""
    counted = {}
    for name, mask in model.state.items():
        if name.startswith("masks."):
            weight = model.module.get_parameter(name.removeprefix("masks."))
            assert torch.equal(weight != 0, mask)
            counted[name] = int((~mask).sum())
    return counted


def test_the_sample_in_the_manual_is_valid() -> None:
    assert PruneUnstructured.model_validate(sample_of(stage_module)).schedule.type == "gradual"


@pytest.mark.parametrize("unit", ["weight", "vector", "kernel", "block"])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_the_share_of_zeros_is_reached_in_every_unit(context: Context, unit: str, scope: str) -> None:
    result = prune(unit=unit, scope=scope).run(model_of("vgg"), context)
    assert result.model is not None
    assert result.facts["sparsity"] == pytest.approx(0.8, abs=2e-3)
    counted = {name: count for name, (count, _) in result.facts["zeros"].items()}
    assert counted == {name.removeprefix("masks."): count for name, count in zeros(result.model).items()}


def test_biases_are_pruned_when_asked(context: Context) -> None:
    asked = prune(biases=True).run(model_of("vgg"), context).facts["zeros"]
    assert any(name.endswith(".bias") for name in asked)
    assert not any(name.endswith(".bias") for name in prune().run(model_of("vgg"), context).facts["zeros"])


@pytest.mark.parametrize(
    "schedule",
    [{"type": "one_shot"}, {"type": "iterative", "rounds": 2}, {"type": "gradual", "every": 1, "end": 0.5}],
)
def test_every_schedule_ends_at_the_share_with_trained_weights(
    context: Context, schedule: dict[str, Any]
) -> None:
    result = prune(schedule=schedule, recover={"epochs": 2}).run(model_of("vgg"), context)
    assert result.model is not None
    assert sum(zeros(result.model).values()) == sum(count for count, _ in result.facts["zeros"].values())
    assert result.facts["sparsity"] == pytest.approx(0.8, abs=1e-3)
    assert len(result.facts["history"]) == 2


def test_rounds_take_the_same_share_of_what_is_left(context: Context) -> None:
    stage = prune(sparsity=0.75, schedule={"type": "iterative", "rounds": 2}, recover={"epochs": 1})
    rounds = stage.run(model_of("vgg"), context).facts["rounds"]
    assert [each["sparsity"] for each in rounds] == [0.5, 0.75]


def test_rewinding_starts_each_round_from_the_other_model(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mcomp_stages.methods.sparsity import schedules

    starts: list[Model] = []
    train = schedules.fit_with_teachers

    def watched(model: Model, *arguments: Any) -> Any:
        starts.append(model)
        return train(model, *arguments)

    monkeypatch.setattr(schedules, "fit_with_teachers", watched)
    reference = RecipeRef(recipe="early.yaml")
    early = model_of("vgg")
    torch.nn.init.constant_(early.module.get_parameter("features.0.weight"), 0.125)
    schedule = {"type": "iterative", "rounds": 2, "rewind": {"recipe": "early.yaml"}}
    stage = prune(schedule=schedule, recover={"epochs": 1})
    stage.run(model_of("vgg"), replace(context, models={reference: early}))
    assert len(starts) == 2
    for start in starts:
        weight = start.module.get_parameter("features.0.weight")
        assert set(weight.flatten().tolist()) == {0.0, 0.125}
    assert sum(zeros(starts[0]).values()) < sum(zeros(starts[1]).values())


def test_rewinding_to_another_structure_is_an_error(context: Context) -> None:
    reference = RecipeRef(recipe="early.yaml")
    schedule = {"type": "iterative", "rewind": {"recipe": "early.yaml"}}
    stage = prune(schedule=schedule, recover={"epochs": 1})
    with pytest.raises(StageError, match="the model to rewind to has another structure"):
        stage.run(model_of("vgg"), replace(context, models={reference: model_of("vit")}))


def test_zeros_survive_a_cut_a_checkpoint_and_training_in_integers(context: Context, tmp_path: Path) -> None:
    sparse = prune().run(model_of("vgg"), context).model
    assert sparse is not None
    cut = PruneChannels.model_validate(
        {"target": {"macs": 0.6}, "round_to": 4, "min_channels": 4, "recover": {"epochs": 1}}
    )
    smaller = cut.run(sparse, context).model
    assert smaller is not None
    counted = zeros(smaller)
    assert 0 < sum(counted.values()) < sum(zeros(sparse).values())
    save_model(smaller, tmp_path / "model")
    loaded = load_model_of(tmp_path / "model")
    assert zeros(loaded) == counted
    qat = QuantizeQat.model_validate({"training": {"epochs": 1}})
    quantized = qat.run(loaded, context).model
    assert quantized is not None
    assert zeros(quantized) == counted


def load_model_of(folder: Path) -> Model:
    with pytest.MonkeyPatch.context() as patch:
        from mcomp import plugins
        from tests.architectures import NetConfig

        load = plugins.load
        patch.setattr(
            plugins, "load", lambda group, name: NetConfig if group == "models" else load(group, name)
        )
        return load_model(folder)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sparsity": 0.0}, "greater than 0"),
        ({"sparsity": 1.0}, "less than 1"),
        ({"unit": "filter"}, "'weight', 'vector', 'kernel' or 'block'"),
        ({"block": [2, 2]}, "block is the size of blocks, and unit is weight"),
        ({"schedule": {"type": "gradual"}}, "schedule gradual trains: say how under recover"),
        ({"importance": "movement", "recover": {"epochs": 1}}, "movement is seen while training"),
        ({"schedule": {"type": "gradual", "start": 0.5, "end": 0.5}}, "end: 0.5 must be above start: 0.5"),
        (
            {"schedule": {"type": "gradual", "initial": 0.9}, "recover": {"epochs": 1}},
            "initial sparsity must be below",
        ),
    ],
)
def test_mistakes_in_the_fields_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        prune(**fields)


def test_the_configuration_loads_no_torch() -> None:
    code = "import sys, mcomp_stages.prune.unstructured; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
