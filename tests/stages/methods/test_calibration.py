"""The samples that a stage without training looks at."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mcomp.data.splits import Splits, TensorSplit
from mcomp.errors import StageError
from mcomp.stage import Context
from mcomp_stages.methods.calibration import calibration_inputs, require_telling
from tests.mcomp.training.setting import make_context, small_split


def context_with(image: Tensor) -> Context:
    num = len(image)
    split = TensorSplit(torch.arange(num), {"image": image}, torch.zeros(num, dtype=torch.int64))
    train = small_split(8, seed=0)
    return make_context(Splits({"train": train, "calibration": split, "validation": train, "test": train}))


def images(num: int = 20) -> Tensor:
    return torch.randn(num, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def test_the_first_samples_come_in_batches_in_their_order() -> None:
    batches = calibration_inputs(context_with(images()), 18)
    assert [len(batch["image"]) for batch in batches] == [16, 2]
    assert torch.equal(torch.cat([batch["image"] for batch in batches]), images()[:18])


def test_fewer_samples_than_asked_for_are_an_error_but_not_in_a_rehearsal() -> None:
    context = context_with(images(5))
    with pytest.raises(
        StageError, match=r"9 calibration samples are asked for and there are 5; lower `samples`"
    ):
        calibration_inputs(context, 9)
    (batch,) = calibration_inputs(replace(context, rehearsal=True), 9)
    assert len(batch["image"]) == 5


@pytest.mark.parametrize("rehearsal", [False, True])
def test_no_samples_are_an_error(rehearsal: bool) -> None:
    split = TensorSplit(torch.arange(0), {"image": images(0)}, torch.arange(0))
    parts = dict.fromkeys(("train", "validation", "test"), small_split(8, seed=0))
    data = Splits({**parts, "calibration": split})
    context = replace(make_context(), data=data, rehearsal=rehearsal)
    with pytest.raises(StageError, match="8 calibration samples are asked for and there are 0"):
        calibration_inputs(context, 8)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_counted_and_their_input_is_named(wrong: float) -> None:
    image = images()
    image[3, 0, 0, :2] = wrong
    with pytest.raises(
        StageError, match=r"2 numbers of the input 'image' are not finite.*; look at the files"
    ):
        calibration_inputs(context_with(image), 20)


def test_samples_that_are_all_the_same_are_an_error() -> None:
    with pytest.raises(StageError, match=r"all 20 calibration samples are the same.*; give"):
        calibration_inputs(context_with(torch.full_like(images(), 0.5)), 20)
    with pytest.raises(StageError, match="all 20 calibration samples are the same"):
        calibration_inputs(context_with(images()[:1].expand(20, 1, 6, 6)), 20)


def test_one_other_sample_is_enough() -> None:
    image = torch.zeros(20, 1, 6, 6)
    image[17, 0, 2, 3] = 1.0
    assert len(calibration_inputs(context_with(image), 20)) == 2


def test_sentences_that_come_one_by_one_may_differ_in_length() -> None:
    require_telling([{"input_ids": torch.ones(1, length)} for length in (12, 18)])
    with pytest.raises(StageError, match="all 2 calibration samples are the same"):
        require_telling([{"input_ids": torch.ones(1, 12)}] * 2)
