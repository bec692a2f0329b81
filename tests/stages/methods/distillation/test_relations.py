from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mcomp_stages.methods.distillation.relations import relation_divergence, token_relations

# N = samples, L = tokens, W = width, H = heads


def slow_relation(left: Tensor, right: Tensor, heads: int, real: list[int]) -> list[list[list[float]]]:
    """Return the relations of one sentence by head, among its real tokens."""
    width = left.shape[1] // heads
    found = []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        rows = []
        for i in real:
            scores = [float(left[i, part] @ right[j, part]) / math.sqrt(width) for j in real]
            powers = [math.exp(score) for score in scores]
            rows.append([power / sum(powers) for power in powers])
        found.append(rows)
    return found


def slow_divergence(student: Tensor, teacher: Tensor, heads: int, mask: Tensor) -> float:
    total = 0.0
    for sample in range(len(student)):
        real = mask[sample].nonzero().flatten().tolist()
        ours, theirs = (slow_relation(each[sample], each[sample], heads, real) for each in (student, teacher))
        for q, p in zip(ours, theirs, strict=True):
            total += sum(
                b * math.log(b / a) for x, y in zip(q, p, strict=True) for a, b in zip(x, y, strict=True)
            )
    return total / heads / int(mask.sum())


@st.composite
def sentences(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Values of a student (width 4) and a teacher (width 6), and which tokens are real."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    num_samples, length = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    student = torch.randn(num_samples, length, 4, generator=generator, dtype=torch.float64)
    teacher = torch.randn(num_samples, length, 6, generator=generator, dtype=torch.float64)
    lengths = torch.tensor([draw(st.integers(1, length)) for _ in range(num_samples)])
    return student, teacher, (torch.arange(length)[None] < lengths[:, None]).long()


def distance(student: Tensor, teacher: Tensor, mask: Tensor | None) -> Tensor:
    ours, theirs = (token_relations(each, each, 2, mask) for each in (student, teacher))
    return relation_divergence(ours, theirs, mask)


@given(sentences())
def test_relations_of_real_tokens_are_compared_head_by_head(problem: tuple[Tensor, Tensor, Tensor]) -> None:
    student, teacher, mask = problem
    expected = slow_divergence(student, teacher, 2, mask)
    assert distance(student, teacher, mask).item() == pytest.approx(expected, abs=1e-9)


@given(sentences())
def test_what_padding_holds_does_not_matter(problem: tuple[Tensor, Tensor, Tensor]) -> None:
    student, teacher, mask = problem
    noisy = student + 5 * (1 - mask)[:, :, None]
    assert torch.isclose(distance(noisy, teacher, mask), distance(student, teacher, mask))


@given(sentences())
def test_the_same_relations_cost_nothing_and_no_mask_means_all_are_real(
    problem: tuple[Tensor, Tensor, Tensor],
) -> None:
    student, teacher, mask = problem
    assert distance(student, student, mask).item() == pytest.approx(0, abs=1e-12)
    assert torch.isclose(distance(student, teacher, None), distance(student, teacher, torch.ones_like(mask)))


def test_gradients_are_right_and_finite_beside_padding() -> None:
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(2, 3, 6, generator=generator, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert torch.autograd.gradcheck(lambda x: distance(x, teacher, mask), student)
