from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mcomp_stages.methods.distillation.features import (
    attention_distance,
    contrastive_distance,
    relation_distance,
    similarity_distance,
    squared_difference,
)

# N = samples, C = channels, P = places, D = numbers of a sample

Rows = list[list[float]]
OTHERS = ~torch.eye(4, dtype=torch.bool)
EVERY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "fitnet": squared_difference,
    "at": lambda student, teacher: attention_distance(student[:, :, None], teacher[:, :, None]),
    "sp": similarity_distance,
    "rkd": lambda student, teacher: relation_distance(student, teacher, 1.0, 2.0),
    "crd": lambda student, teacher: contrastive_distance(
        student, teacher, ~torch.eye(len(student), dtype=torch.bool), 0.2
    ),
}


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Features of a student and a teacher, (N, D) in double."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shape = (draw(st.integers(2, 5)), draw(st.integers(2, 4)))
    student, teacher = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return student, teacher


def dot(left: list[float], right: list[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


def unit(row: list[float]) -> list[float]:
    length = math.sqrt(dot(row, row))
    return [each / length if length else 0.0 for each in row]


def huber(left: float, right: float) -> float:
    difference = abs(left - right)
    return difference**2 / 2 if difference < 1 else difference - 0.5


def slow_similarity(student: Rows, teacher: Rows) -> float:
    grams = [[unit([dot(a, b) for b in rows]) for a in rows] for rows in (student, teacher)]
    squares = [
        (a - b) ** 2 for ours, theirs in zip(*grams, strict=True) for a, b in zip(ours, theirs, strict=True)
    ]
    return sum(squares) / len(squares)


def slow_relations(student: Rows, teacher: Rows, distance: float, angle: float) -> float:
    places = range(len(student))

    def distances(rows: Rows) -> dict[tuple[int, int], float]:
        found = {(i, j): math.dist(rows[i], rows[j]) for i in places for j in places}
        positive = [each for each in found.values() if each > 0]
        mean = sum(positive) / len(positive) if positive else 1.0
        return {pair: each / mean for pair, each in found.items()}

    def cosine(rows: Rows, at: int, j: int, k: int) -> float:
        towards = [unit([a - b for a, b in zip(rows[end], rows[at], strict=True)]) for end in (j, k)]
        return dot(*towards)

    ours, theirs = distances(student), distances(teacher)
    of_distances = sum(huber(ours[pair], theirs[pair]) for pair in ours) / len(ours)
    triples = [(i, j, k) for i in places for j in places for k in places]
    of_angles = sum(huber(cosine(student, *each), cosine(teacher, *each)) for each in triples) / len(triples)
    return distance * of_distances + angle * of_angles


def slow_contrast(student: Rows, teacher: Rows, others: list[list[bool]], temperature: float) -> float:
    """Return the loss of the paper's critic h, from its definition, for data of 50 samples."""
    size = 50
    ours, theirs = [unit(row) for row in student], [unit(row) for row in teacher]
    powers = [math.exp(dot(one, other) / temperature) for one in ours for other in theirs]
    whole = size * sum(powers) / len(powers)
    total = 0.0
    for i in range(len(ours)):
        for first, second in ((ours, theirs), (theirs, ours)):
            negatives = [j for j in range(len(ours)) if others[i][j]]

            def critic(j: int) -> float:
                power = math.exp(dot(first[i], second[j]) / temperature) / whole  # noqa: B023
                return power / (power + max(1, len(negatives)) / size)  # noqa: B023

            total -= math.log(critic(i)) + sum(math.log(1 - critic(j)) for j in negatives)
    return total / len(ours)


@given(pairs())
def test_similarity_compares_gram_matrices_with_rows_of_length_one(pair: tuple[Tensor, Tensor]) -> None:
    student, teacher = pair
    expected = slow_similarity(student.tolist(), teacher.tolist())
    assert similarity_distance(student, teacher).item() == pytest.approx(expected, abs=1e-9)


@given(pairs(), st.floats(0, 3), st.floats(0, 3))
def test_relations_compare_distances_and_angles(
    pair: tuple[Tensor, Tensor], distance: float, angle: float
) -> None:
    student, teacher = pair
    expected = slow_relations(student.tolist(), teacher.tolist(), distance, angle)
    assert relation_distance(student, teacher, distance, angle).item() == pytest.approx(expected, abs=1e-6)


@given(pairs(), st.sampled_from([0.1, 1.0]), st.integers(0, 2**20))
def test_contrast_is_the_critic_of_the_paper(
    pair: tuple[Tensor, Tensor], temperature: float, seed: int
) -> None:
    student, teacher = pair
    labels = torch.randint(3, (len(student),), generator=torch.Generator().manual_seed(seed))
    others = labels[:, None] != labels[None]
    expected = slow_contrast(student.tolist(), teacher.tolist(), others.tolist(), temperature)
    found = contrastive_distance(student, teacher, others, temperature).item()
    assert found == pytest.approx(expected, rel=1e-6)


@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 3))
def test_attention_compares_where_features_are_large(seed: int, ours: int, theirs: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(3, ours, 5, generator=generator, dtype=torch.float64)
    teacher = torch.randn(3, theirs, 5, generator=generator, dtype=torch.float64)
    total = 0.0
    for sample in range(3):
        maps = []
        for features in (student[sample].tolist(), teacher[sample].tolist()):
            maps.append(unit([sum(channel[place] ** 2 for channel in features) for place in range(5)]))
        total += sum((a - b) ** 2 for a, b in zip(*maps, strict=True))
    assert attention_distance(student, teacher).item() == pytest.approx(total / 3, abs=1e-9)


def test_padding_does_not_count_among_hidden_states() -> None:
    student, teacher = torch.zeros(2, 3, 4), torch.ones(2, 3, 4)
    teacher[1, 2] = 100.0
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    assert squared_difference(student, teacher, mask).item() == pytest.approx(1.0)
    assert squared_difference(student, teacher).item() > 100


@pytest.mark.parametrize("name", EVERY)
@given(pair=pairs())
def test_order_of_samples_does_not_matter(name: str, pair: tuple[Tensor, Tensor]) -> None:
    student, teacher = pair
    order = torch.randperm(len(student), generator=torch.Generator().manual_seed(1))
    assert torch.isclose(EVERY[name](student[order], teacher[order]), EVERY[name](student, teacher))


@pytest.mark.parametrize("name", ["fitnet", "at", "sp", "rkd"])
@given(pair=pairs())
def test_the_same_features_cost_nothing(name: str, pair: tuple[Tensor, Tensor]) -> None:
    assert EVERY[name](pair[0], pair[0].clone()).item() == pytest.approx(0, abs=1e-9)


@given(pairs(), st.floats(0.5, 4))
def test_relations_do_not_see_scale_shift_or_rotation(pair: tuple[Tensor, Tensor], scale: float) -> None:
    student, teacher = pair
    turn, _ = torch.linalg.qr(torch.randn(student.shape[1], student.shape[1], dtype=torch.float64))
    moved = scale * student @ turn + 3
    assert torch.isclose(
        relation_distance(moved, teacher, 1.0, 2.0), relation_distance(student, teacher, 1.0, 2.0), atol=1e-6
    )


@pytest.mark.parametrize("name", EVERY)
def test_gradients_are_right(name: str) -> None:
    generator = torch.Generator().manual_seed(2)
    student, teacher = (torch.randn(4, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    assert torch.autograd.gradcheck(lambda x: EVERY[name](x, teacher), student.requires_grad_())


@pytest.mark.parametrize("name", EVERY)
def test_dead_and_equal_features_give_finite_gradients(name: str) -> None:
    student = torch.zeros(4, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(EVERY[name](student, torch.ones(4, 3)), student)
    assert bool(torch.isfinite(gradient).all())
