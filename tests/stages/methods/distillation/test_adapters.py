from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mcomp.errors import StageError
from mcomp_stages.methods.distillation.adapters import Adapter, Embedding, same_places

maps = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))
tokens = st.tuples(st.integers(1, 5), st.integers(1, 4))
vectors = st.tuples(st.integers(1, 4))
shapes = st.one_of(maps, tokens, vectors)


@given(shapes, shapes)
def test_any_two_features_come_to_one_shape(student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    ours, theirs = Adapter(student, teacher)(torch.randn(3, *student), torch.randn(3, *teacher))
    assert ours.shape == theirs.shape
    assert theirs.shape[1 if len(teacher) == 3 and theirs.ndim == 4 else -1] == (
        teacher[0] if len(teacher) == 3 else teacher[-1]
    )


@given(shapes, shapes)
def test_any_two_features_have_an_embedding(student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    ours, theirs = Embedding(student, teacher, 7)(torch.randn(3, *student), torch.randn(3, *teacher))
    assert ours.shape == theirs.shape == (3, 7)


@given(shapes)
def test_features_of_one_shape_are_left_as_they_are(shape: tuple[int, ...]) -> None:
    features, other = torch.randn(2, *shape), torch.randn(2, *shape)
    adapter = Adapter(shape, shape)
    assert not list(adapter.parameters())
    assert all(torch.equal(a, b) for a, b in zip(adapter(features, other), (features, other), strict=True))


def test_maps_are_pooled_to_the_smaller_and_projected_by_a_1x1_convolution() -> None:
    adapter = Adapter((2, 4, 4), (5, 2, 2))
    assert isinstance(adapter.project, nn.Conv2d)
    student = torch.arange(32.0).view(1, 2, 4, 4)
    pooled, teacher = same_places(student, torch.ones(1, 5, 2, 2))
    assert torch.equal(pooled[0, 0], torch.tensor([[2.5, 4.5], [10.5, 12.5]]))
    assert torch.equal(teacher, torch.ones(1, 5, 2, 2))


def test_tokens_are_pooled_among_neighbours() -> None:
    student, _ = same_places(torch.arange(4.0).view(1, 4, 1), torch.zeros(1, 2, 1))
    assert student.flatten().tolist() == [0.5, 2.5]


def test_features_that_nothing_adapts_are_refused() -> None:
    with pytest.raises(StageError, match=r"student have shape \(2, 2, 2, 2\).*maps \(C, H, W\), tokens"):
        Adapter((2, 2, 2, 2), (2,))
