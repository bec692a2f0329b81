from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mcomp_stages.methods.distillation.losses import (
    correlation,
    cosine_distance,
    dist,
    dkd,
    kd,
    squared_error,
    standardized,
)

# N = samples, C = classes

Loss = Callable[..., Tensor]
EVERY: dict[str, Loss] = {
    "kd": lambda student, teacher, target, temperature: kd(student, teacher, temperature),
    "dkd": lambda student, teacher, target, temperature: dkd(student, teacher, target, temperature, 1.0, 2.0),
    "dist": lambda student, teacher, target, temperature: dist(student, teacher, temperature, 1.0, 2.0),
    "standardized kd": lambda student, teacher, target, temperature: kd(
        standardized(student), standardized(teacher), temperature
    ),
    "mse": lambda student, teacher, target, temperature: squared_error(student, teacher),
    "cosine": lambda student, teacher, target, temperature: cosine_distance(student, teacher),
}


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, float]:
    """Logits of a student and a teacher in double, targets, and a temperature."""
    num_samples, num_classes = draw(st.integers(1, 5)), draw(st.integers(2, 6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shape = (num_samples, num_classes)
    student, teacher = (3 * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    target = torch.randint(num_classes, (num_samples,), generator=generator)
    return student, teacher, target, draw(st.sampled_from([0.5, 1.0, 4.0, 20.0]))


def slow_softmax(logits: list[float], temperature: float) -> list[float]:
    powers = [math.exp(logit / temperature) for logit in logits]
    return [power / sum(powers) for power in powers]


def slow_divergence(teacher: list[float], student: list[float]) -> float:
    return sum(p * math.log(p / q) for p, q in zip(teacher, student, strict=True))


def slow_kd(student_NC: Tensor, teacher_NC: Tensor, temperature: float) -> float:
    rows = zip(student_NC.tolist(), teacher_NC.tolist(), strict=True)
    terms = [slow_divergence(slow_softmax(t, temperature), slow_softmax(s, temperature)) for s, t in rows]
    return temperature**2 * sum(terms) / len(terms)


def slow_dkd(
    student_NC: Tensor, teacher_NC: Tensor, target_N: Tensor, temperature: float, alpha: float, beta: float
) -> float:
    total = 0.0
    for student, teacher, target in zip(
        student_NC.tolist(), teacher_NC.tolist(), target_N.tolist(), strict=True
    ):
        p, q = slow_softmax(teacher, temperature), slow_softmax(student, temperature)
        target_term = slow_divergence([p[target], 1 - p[target]], [q[target], 1 - q[target]])
        others = [label for label in range(len(p)) if label != target]
        p_others = [p[label] / (1 - p[target]) for label in others]
        q_others = [q[label] / (1 - q[target]) for label in others]
        total += alpha * target_term + beta * slow_divergence(p_others, q_others)
    return temperature**2 * total / len(student_NC)


@given(problems())
def test_kd_is_the_mean_divergence_of_softened_classes(problem: tuple[Tensor, Tensor, Tensor, float]) -> None:
    student, teacher, _, temperature = problem
    expected = slow_kd(student, teacher, temperature)
    assert kd(student, teacher, temperature).mean().item() == pytest.approx(expected, rel=1e-6, abs=1e-9)


@given(problems(), st.floats(0, 3), st.floats(0, 8))
def test_dkd_is_its_two_weighted_parts(
    problem: tuple[Tensor, Tensor, Tensor, float], alpha: float, beta: float
) -> None:
    student, teacher, target, temperature = problem
    expected = slow_dkd(student, teacher, target, temperature, alpha, beta)
    found = dkd(student, teacher, target, temperature, alpha, beta).mean().item()
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-8)


@given(problems())
def test_dkd_with_the_teachers_own_weights_is_kd(problem: tuple[Tensor, Tensor, Tensor, float]) -> None:
    student, teacher, target, temperature = (problem[0][:1], problem[1][:1], problem[2][:1], problem[3])
    beta = 1 - slow_softmax(teacher[0].tolist(), temperature)[int(target)]
    decoupled = dkd(student, teacher, target, temperature, 1.0, beta).item()
    assert decoupled == pytest.approx(kd(student, teacher, temperature).item(), rel=1e-6, abs=1e-9)


@given(problems())
def test_a_student_that_agrees_loses_nothing(problem: tuple[Tensor, Tensor, Tensor, float]) -> None:
    student, _, target, temperature = problem
    assert kd(student, student + 7, temperature).mean().item() == pytest.approx(0, abs=1e-9)
    assert dkd(student, student - 7, target, temperature, 1.0, 2.0).mean().item() == pytest.approx(
        0, abs=1e-9
    )


@given(problems(), st.randoms())
def test_order_of_samples_and_names_of_classes_do_not_matter(
    problem: tuple[Tensor, Tensor, Tensor, float], random: object
) -> None:
    student, teacher, target, temperature = problem
    rows = torch.randperm(student.shape[0], generator=torch.Generator().manual_seed(1))
    classes = torch.randperm(student.shape[1], generator=torch.Generator().manual_seed(2))
    new_name = classes.argsort()
    moved_student, moved_teacher = student[rows][:, classes], teacher[rows][:, classes]
    moved_target = new_name[target[rows]]
    for loss in EVERY.values():
        moved = loss(moved_student, moved_teacher, moved_target, temperature)
        assert torch.allclose(moved, loss(student, teacher, target, temperature)[rows], atol=1e-6)


def test_gradients_are_right() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(3, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    target = torch.tensor([0, 3, 1])
    student.requires_grad_()
    for loss in EVERY.values():
        assert torch.autograd.gradcheck(
            partial(loss, teacher=teacher, target=target, temperature=4.0), student
        )


@pytest.mark.parametrize("margin", [50.0, 300.0])
def test_sure_teacher_and_student_give_finite_losses_and_gradients(margin: float) -> None:
    teacher = torch.tensor([[margin, 0.0, -margin]])
    student = torch.tensor([[-margin, margin, 0.0]], requires_grad=True)
    target = torch.tensor([0])
    loss = torch.stack([each(student, teacher, target, 1.0) for each in EVERY.values()]).sum()
    (gradient,) = torch.autograd.grad(loss, student)
    assert bool(torch.isfinite(loss))
    assert bool(torch.isfinite(gradient).all())


def slow_correlation(left: list[float], right: list[float]) -> float:
    """Return Pearson's correlation, 0 where one side has no spread."""
    mean_left, mean_right = sum(left) / len(left), sum(right) / len(right)
    pairs = [(a - mean_left, b - mean_right) for a, b in zip(left, right, strict=True)]
    length = math.sqrt(sum(a * a for a, _ in pairs)) * math.sqrt(sum(b * b for _, b in pairs))
    return sum(a * b for a, b in pairs) / length if length > 1e-12 else 0.0


@given(problems(), st.floats(0, 3), st.floats(0, 3))
def test_dist_is_one_minus_correlations_of_rows_and_columns(
    problem: tuple[Tensor, Tensor, Tensor, float], inter: float, intra: float
) -> None:
    student, teacher, _, temperature = problem
    p, q = ([slow_softmax(row, temperature) for row in each.tolist()] for each in (student, teacher))
    rows = [1 - slow_correlation(a, b) for a, b in zip(p, q, strict=True)]
    columns = [
        1 - slow_correlation(list(a), list(b))
        for a, b in zip(zip(*p, strict=True), zip(*q, strict=True), strict=True)
    ]
    expected = temperature**2 * (inter * sum(rows) / len(rows) + intra * sum(columns) / len(columns))
    found = dist(student, teacher, temperature, inter, intra).mean().item()
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-5)


@given(problems(), st.floats(0.1, 9), st.floats(-5, 5))
def test_dist_does_not_see_a_line_through_the_probabilities(
    problem: tuple[Tensor, Tensor, Tensor, float], scale: float, shift: float
) -> None:
    """What it compares are correlations: only a relation that is not a line costs something."""
    student, _, _, temperature = problem
    probabilities = torch.softmax(student / temperature, dim=1)
    kept = probabilities.std(dim=1) > 1e-4 if student.shape[1] > 1 else torch.zeros(len(student)).bool()
    assert torch.allclose(
        correlation(probabilities, scale * probabilities + shift, dim=1)[kept],
        torch.ones(int(kept.sum())).double(),
    )


@given(problems(), st.floats(0.5, 9), st.floats(-5, 5))
def test_standardized_logits_have_no_scale_and_no_shift(
    problem: tuple[Tensor, Tensor, Tensor, float], scale: float, shift: float
) -> None:
    logits = problem[0]
    once = standardized(logits)
    assert torch.allclose(standardized(scale * logits + shift), once, atol=1e-4)
    spread = logits.std(dim=1) > 1e-2
    assert torch.allclose(once.mean(dim=1), torch.zeros(len(once)).double(), atol=1e-9)
    assert torch.allclose(once.std(dim=1)[spread], torch.ones(int(spread.sum())).double())


def test_equal_logits_have_a_gradient_also_standardized() -> None:
    student = torch.zeros(2, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(kd(standardized(student), torch.randn(2, 4), 2.0).sum(), student)
    assert bool(torch.isfinite(gradient).all())


@given(problems())
def test_errors_of_outputs_are_means_and_cosines(problem: tuple[Tensor, Tensor, Tensor, float]) -> None:
    student, teacher, _, _ = problem
    for row, (ours, theirs) in enumerate(zip(student.tolist(), teacher.tolist(), strict=True)):
        squares = [(a - b) ** 2 for a, b in zip(ours, theirs, strict=True)]
        assert squared_error(student, teacher)[row].item() == pytest.approx(sum(squares) / len(squares))
        dot = sum(a * b for a, b in zip(ours, theirs, strict=True))
        lengths = math.sqrt(sum(a * a for a in ours)) * math.sqrt(sum(b * b for b in theirs))
        assert cosine_distance(student, teacher)[row].item() == pytest.approx(1 - dot / lengths, abs=1e-6)
