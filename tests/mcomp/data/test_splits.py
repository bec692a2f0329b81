from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mcomp.data.splits import Splits, TensorSplit, stratified_parts

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=80)


def parts_of(labels: list[int], sizes: dict[str, int], seed: int = 0) -> dict[str, list[int]]:
    generator = torch.Generator().manual_seed(seed)
    parts = stratified_parts(torch.tensor(labels), sizes, generator)
    return {name: part.tolist() for name, part in parts.items()}


@given(LABELS, st.integers(0, 40), st.integers(0, 40))
def test_parts_have_their_sizes_and_share_out_every_sample(
    labels: list[int], first: int, second: int
) -> None:
    first = min(first, len(labels))
    second = min(second, len(labels) - first)
    parts = parts_of(labels, {"first": first, "second": second})
    assert (len(parts["first"]), len(parts["second"])) == (first, second)
    assert sorted(position for part in parts.values() for position in part) == list(range(len(labels)))
    assert all(part == sorted(part) for part in parts.values())


@given(LABELS, st.integers(0, 40))
def test_each_class_has_its_proportion_to_one_sample(labels: list[int], size: int) -> None:
    size = min(size, len(labels))
    part = parts_of(labels, {"part": size})["part"]
    have = Counter(labels[position] for position in part)
    classes = Counter(labels)
    for label, count in classes.items():
        assert abs(have[label] - size * count / len(labels)) <= (len(classes) + 1) / 2


def test_parts_depend_on_the_seed_alone() -> None:
    labels = [0, 1, 2] * 20
    assert parts_of(labels, {"part": 30}, seed=1) == parts_of(labels, {"part": 30}, seed=1)
    assert parts_of(labels, {"part": 30}, seed=1) != parts_of(labels, {"part": 30}, seed=2)


def test_more_samples_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match="3 samples cannot fill parts of 4"):
        parts_of([0, 1, 2], {"first": 2, "second": 2})


def test_a_batch_holds_the_samples_asked_for_in_that_order() -> None:
    split = TensorSplit(
        torch.tensor([7, 8, 9]), {"image": torch.tensor([[1.0], [2.0], [3.0]])}, torch.tensor([0, 1, 0])
    )
    batch = Splits({"train": split}).split("train").batch(torch.tensor([2, 0]))
    assert batch.indices.tolist() == [9, 7]
    assert batch.inputs["image"].tolist() == [[3.0], [1.0]]
    assert batch.target.tolist() == [0, 0]
    assert len(split) == 3
