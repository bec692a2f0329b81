"""Units: every weight belongs to one, and those of one unit are neighbours of the right kind."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mcomp_stages.methods.sparsity.config import Unit
from mcomp_stages.methods.sparsity.units import INDEX, sizes, summed, unit_index

SHAPES = st.one_of(
    st.tuples(*[st.integers(1, 5)] * 2),
    st.tuples(*[st.integers(1, 4)] * 3),
    st.tuples(*[st.integers(1, 3)] * 4),
).map(torch.Size)


def slow_key(place: tuple[int, ...], shape: torch.Size, unit: Unit, block: tuple[int, int]) -> object:
    """What weights of one unit have in common."""
    if unit == "weight":
        return place
    if unit == "kernel":
        return place[:2]
    if unit == "vector":
        return place[:-1] if len(shape) > 2 else place
    column = 0
    for size, index in zip(shape[1:], place[1:], strict=True):
        column = column * size + index
    return place[0] // block[0], column // block[1]


@given(shape=SHAPES, unit=st.sampled_from(list(INDEX)), block=st.tuples(st.integers(1, 3), st.integers(1, 5)))
def test_weights_share_a_number_just_if_they_are_of_one_unit(
    shape: torch.Size, unit: Unit, block: tuple[int, int]
) -> None:
    index = unit_index(shape, unit, block)
    keys: dict[object, int] = {}
    for place in itertools.product(*map(range, shape)):
        number = int(index[place])
        assert keys.setdefault(slow_key(place, shape, unit, block), number) == number
    assert sorted(keys.values()) == list(range(len(keys)))
    assert int(sizes(index).sum()) == shape.numel()


def test_biases_are_pruned_one_by_one() -> None:
    assert unit_index(torch.Size([3]), "kernel", (1, 4)).tolist() == [0, 1, 2]


def test_values_are_summed_over_each_unit() -> None:
    weight = torch.arange(8.0).view(2, 1, 2, 2)
    assert summed(weight, unit_index(weight.shape, "vector", (1, 1))).tolist() == [1, 5, 9, 13]
    assert summed(weight, unit_index(weight.shape, "kernel", (1, 1))).tolist() == [6, 22]


@pytest.mark.parametrize("unit", ["vector", "kernel"])
def test_a_kernel_of_a_linear_is_a_single_weight(unit: Unit) -> None:
    shape = torch.Size([2, 3])
    assert torch.equal(unit_index(shape, unit, (1, 4)), torch.arange(6).view(2, 3))
