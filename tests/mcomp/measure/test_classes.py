from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mcomp.measure.classes import ClassShares, worst_class
from tests.mcomp.measure.problems import Classes


def shares(*batches: tuple[torch.Tensor, torch.Tensor]) -> tuple[float | None, ...]:
    counted = ClassShares()
    for output, target in batches:
        counted.add(Classes().class_hits(output, target))
    return counted.shares()


def test_a_class_without_samples_has_no_share() -> None:
    output = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert shares((output, torch.tensor([0, 2, 2]))) == (1.0, None, 0.5)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=12), st.integers(0, 5), st.integers(1, 11))
def test_shares_are_those_of_the_whole_whatever_the_batches(labels: list[int], seed: int, cut: int) -> None:
    target = torch.tensor(labels)
    output = torch.randn(len(labels), 3, generator=torch.Generator().manual_seed(seed))
    said = output.argmax(1).tolist()
    expected = []
    for label in range(3):
        answers = [answer == label for answer, right in zip(said, labels, strict=True) if right == label]
        expected.append(sum(answers) / len(answers) if answers else None)
    parts = [(output[:cut], target[:cut]), (output[cut:], target[cut:])]
    assert shares(*(part for part in parts if len(part[1]))) == tuple(expected)


def test_a_target_that_is_no_class_has_no_shares() -> None:
    assert shares((torch.zeros(3, 4), torch.zeros(3))) == ()
    assert shares((torch.zeros(3, 4, 8), torch.zeros(3, 8, dtype=torch.long))) == ()


def test_the_worst_class_is_the_one_that_lost_most() -> None:
    assert worst_class((0.9, 0.8, None), (0.9, 0.5, 0.1)) == (1, pytest.approx(0.3))
    assert worst_class((0.5, 0.5), (0.6, 0.9)) == (0, pytest.approx(-0.1))
    assert worst_class((None, 0.5), (0.6, None)) is None
    assert worst_class((), ()) is None
