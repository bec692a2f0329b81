"""The stage: its manual, its checks, and each method with a share and with a pattern."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

import mcomp_stages.prune.hessian as stage_module
from mcomp.data.splits import Splits, TensorSplit
from mcomp.errors import StageError
from mcomp.stage import Context
from mcomp_stages.prune.hessian import PruneHessian
from tests.mcomp.training.checkpoints import Memory
from tests.mcomp.training.setting import same
from tests.stages.prune.setting import context_in, model_of
from tests.stages.samples import sample_of

METHODS = ("obs", "wanda", "obd", "fisher")


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return context_in(tmp_path)


def prune(**fields: Any) -> PruneHessian:
    how_much = {} if "pattern" in fields else {"sparsity": 0.6}
    return PruneHessian.model_validate({"type": "prune.hessian", "samples": 16, **how_much, **fields})


def test_the_sample_in_the_manual_is_valid() -> None:
    assert PruneHessian.model_validate(sample_of(stage_module)).method == "obs"


@pytest.mark.parametrize("method", METHODS)
def test_every_layer_loses_its_share(context: Context, method: str) -> None:
    result = prune(method=method).run(model_of("vgg"), context)
    assert result.model is not None
    for zeros, size in result.facts["zeros"].values():
        assert zeros / size == pytest.approx(0.6, abs=0.02)
    assert [edit.kind for edit in result.model.edits] == ["masks"]


@pytest.mark.parametrize("method", METHODS)
def test_every_layer_has_the_pattern(context: Context, method: str) -> None:
    stage = prune(method=method, pattern={"keep": 1, "of": 4}, skip=["features.0"])
    facts = stage.run(model_of("vgg"), context).facts
    assert facts["sparsity"] == pytest.approx(0.75)


def test_what_stays_is_trained_if_asked(context: Context) -> None:
    facts = prune(recover={"epochs": 1}).run(model_of("vgg"), context).facts
    assert facts["sparsity"] == pytest.approx(0.6, abs=0.01)
    assert len(facts["history"]) == 1


def test_a_stage_that_was_interrupted_goes_on_to_the_same_bytes(context: Context) -> None:
    whole, memory = prune().run(model_of("vgg"), context), Memory()
    prune().run(model_of("vgg"), replace(context, checkpoints=memory))
    assert len(memory.kept) == 5
    del memory.kept["layers-3"], memory.kept["layers-4"]
    resumed = prune().run(model_of("vgg"), replace(context, checkpoints=memory))
    assert whole.model is not None
    assert resumed.model is not None
    assert resumed.facts == whole.facts
    assert same(resumed.model.module.state_dict(), whole.model.module.state_dict())
    assert same(resumed.model.state, whole.model.state)


def with_images(context: Context, image: torch.Tensor) -> Context:
    split = TensorSplit(torch.arange(len(image)), {"image": image}, torch.zeros(len(image)).long())
    return replace(context, data=Splits(dict.fromkeys(("train", "calibration", "validation", "test"), split)))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.full((16, 3, 16, 16), float("nan")), "12288 numbers of the input 'image' are not finite"),
        (torch.ones(16, 3, 16, 16), "all 16 calibration samples are the same"),
    ],
)
def test_samples_that_say_nothing_are_refused(context: Context, image: torch.Tensor, message: str) -> None:
    with pytest.raises(StageError, match=message):
        prune().run(model_of("vgg"), with_images(context, image))


def test_a_layer_whose_inputs_never_differ_is_refused_by_its_name(context: Context) -> None:
    model = model_of("mbconv")
    torch.nn.init.zeros_(model.module.get_parameter("stem.weight"))
    with pytest.raises(StageError, match="head: its inputs are the same on all calibration samples"):
        prune(layers=["head"]).run(model, context)


def test_more_samples_than_there_are_is_an_error(context: Context) -> None:
    with pytest.raises(StageError, match="64 calibration samples are asked for and there are 32"):
        prune(samples=64).run(model_of("vgg"), context)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sparsity": 0.0}, "greater than 0"),
        ({"sparsity": 1.0}, "less than 1"),
        ({"sparsity": 0.5, "pattern": {"keep": 2, "of": 4}}, "sparsity or pattern, one of them"),
        ({"sparsity": None}, "sparsity or pattern, one of them"),
        ({"damping": 0.0}, "greater than 0"),
        ({"method": "obc"}, "'obs', 'wanda', 'obd' or 'fisher'"),
        ({"pattern": {"keep": 4, "of": 2}}, "keep must be below of"),
    ],
)
def test_mistakes_in_the_fields_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        prune(**fields)
