"""A part of the data: how much of it, which samples, and that they stay what they are."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mcomp.data.contract import Shortened, SplitName
from mcomp.data.shortened import SMALLEST, ShortenedData, load_data
from mcomp.data.splits import Splits, TensorSplit
from tests.mcomp.toys import NUM_SAMPLES, ToyPoints


def splits(num_samples: int, classes: int = 1) -> Splits:
    """Return four equal splits whose samples stand in the order of their classes."""
    at = torch.arange(num_samples)
    split = TensorSplit(100 + at, {"x": at.float()[:, None]}, at * classes // num_samples)
    return Splits(dict.fromkeys(get_args(SplitName), split), {"normalised": True})


@given(
    num_samples=st.integers(1, 500),
    share=st.floats(0, 1, exclude_max=True),
    samples=st.integers(SMALLEST, 200),
)
def test_a_share_is_kept_but_never_less_than_asked_for_or_more_than_there_is(
    num_samples: int, share: float, samples: int
) -> None:
    data = splits(num_samples)
    part = ShortenedData(data, share, {"train": samples}).split("train")
    assert len(part) == min(num_samples, max(samples, math.ceil(share * num_samples)))
    batch = part.batch(torch.arange(len(part)))
    assert batch.indices.unique(sorted=True).tolist() == batch.indices.tolist()
    whole = data.split("train").batch(batch.indices - 100)
    assert torch.equal(batch.inputs["x"], whole.inputs["x"])
    assert torch.equal(batch.target, whole.target)


def test_samples_in_the_order_of_their_classes_are_drawn_from_all_of_them() -> None:
    part = ShortenedData(splits(1000, classes=5), 0.05, {"test": SMALLEST}).split("test")
    assert part.batch(torch.arange(len(part))).target.unique().tolist() == [0, 1, 2, 3, 4]


def test_the_same_samples_are_drawn_each_time() -> None:
    first, second = (ShortenedData(splits(300), 0.1, {"train": SMALLEST}).split("train") for _ in range(2))
    assert torch.equal(first.positions, second.positions)


def test_augmentation_sees_its_draw() -> None:
    class Augmented(TensorSplit):
        def batch(self, positions: torch.Tensor, draw: int | None = None):
            assert draw == 7
            return super().batch(positions)

    at = torch.arange(10)
    split = Augmented(at, {"x": at}, at, augmented=True)
    part = ShortenedData(Splits({"train": split}), 0.5, {"train": SMALLEST}).split("train")
    assert part.augmented
    part.batch(torch.arange(2), draw=7)


@pytest.mark.parametrize(
    ("batch_size", "batches", "learnt_from", "measured_on"),
    [(4, 1, 4, 4), (4, 2, 8, 4), (1, 1, SMALLEST, SMALLEST), (64, 2, NUM_SAMPLES, NUM_SAMPLES)],
)
def test_a_provider_gives_so_many_whole_batches_of_what_is_learnt_from(
    batch_size: int, batches: int, learnt_from: int, measured_on: int
) -> None:
    part = Shortened(share=0.0, batches=batches)
    data = load_data(ToyPoints(batch_size=batch_size, shortened=part))
    sizes = {name: len(data.split(name)) for name in get_args(SplitName)}
    assert sizes == {
        "train": learnt_from,
        "calibration": learnt_from,
        "validation": measured_on,
        "test": measured_on,
    }


def test_a_provider_that_is_not_shortened_gives_everything() -> None:
    assert len(load_data(ToyPoints()).split("train")) == NUM_SAMPLES
