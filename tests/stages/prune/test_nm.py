"""The stage: its manual, its checks, and a pattern that holds after training and in every chosen layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

import mcomp_stages.prune.nm as stage_module
from mcomp.errors import StageError
from mcomp.stage import Context
from mcomp_stages.prune.nm import PruneNm
from tests.stages.prune.setting import context_in, model_of
from tests.stages.samples import sample_of


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return context_in(tmp_path)


def prune(**fields: Any) -> PruneNm:
    return PruneNm.model_validate({"type": "prune.nm", "skip": ["features.0"], **fields})


def test_the_sample_in_the_manual_is_valid() -> None:
    assert PruneNm.model_validate(sample_of(stage_module)).permute


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (3, 8)])
def test_every_chosen_layer_has_the_pattern_after_training(context: Context, n: int, m: int) -> None:
    result = prune(keep=n, of=m, permute=True, recover={"epochs": 1}).run(model_of("vgg"), context)
    assert result.model is not None
    assert result.facts["sparsity"] == pytest.approx(1 - n / m)
    for name in result.facts["zeros"]:
        weight = result.model.module.get_parameter(name)
        groups = (weight != 0).movedim(1, -1).reshape(-1, weight.shape[1] // m, m)
        assert (groups.sum(-1) == n).all()
    kept = result.facts["kept_magnitude"]
    assert kept["reordered"] > kept["as_is"]


def test_without_reordering_the_channels_stay(context: Context) -> None:
    result = prune().run(model_of("vgg"), context)
    assert result.model is not None
    assert [edit.kind for edit in result.model.edits] == ["masks"]
    assert list(result.facts["kept_magnitude"]) == ["as_is"]
    assert torch.equal(
        result.model.module.get_parameter("features.0.weight"),
        model_of("vgg").module.get_parameter("features.0.weight"),
    )


def test_along_the_outputs_another_layer_is_too_narrow(context: Context) -> None:
    result = prune(axis="output", skip=["classifier.4"]).run(model_of("vgg"), context)
    assert "features.0.weight" in result.facts["zeros"]
    with pytest.raises(StageError, match=r"classifier.4 has 10 outputs"):
        prune(axis="output", skip=[]).run(model_of("vgg"), context)


def test_an_axis_that_is_no_multiple_is_an_error_that_names_the_layer(context: Context) -> None:
    with pytest.raises(StageError, match=r"features.0 has 3 inputs: not a multiple of 4; add them to skip"):
        prune(skip=[]).run(model_of("vgg"), context)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"keep": 4, "of": 4}, "keep: 4 of: 4 leaves nothing out"),
        ({"keep": 0}, "greater than or equal to 1"),
        ({"axis": "kernel"}, "'input' or 'output'"),
    ],
)
def test_mistakes_in_the_fields_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        prune(**fields)
