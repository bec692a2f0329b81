from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mcomp_stages.methods.distillation.losses import dkd, kd

# N = samples, C = classes


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
    assert kd(student, teacher, temperature).item() == pytest.approx(expected, rel=1e-6, abs=1e-9)


@given(problems(), st.floats(0, 3), st.floats(0, 8))
def test_dkd_is_its_two_weighted_parts(
    problem: tuple[Tensor, Tensor, Tensor, float], alpha: float, beta: float
) -> None:
    student, teacher, target, temperature = problem
    expected = slow_dkd(student, teacher, target, temperature, alpha, beta)
    found = dkd(student, teacher, target, temperature, alpha, beta).item()
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
    assert kd(student, student + 7, temperature).item() == pytest.approx(0, abs=1e-9)
    assert dkd(student, student - 7, target, temperature, 1.0, 2.0).item() == pytest.approx(0, abs=1e-9)


@given(problems(), st.randoms())
def test_order_of_samples_and_names_of_classes_do_not_matter(
    problem: tuple[Tensor, Tensor, Tensor, float], random: object
) -> None:
    student, teacher, target, temperature = problem
    rows = torch.randperm(student.shape[0], generator=torch.Generator().manual_seed(1))
    classes = torch.randperm(student.shape[1], generator=torch.Generator().manual_seed(2))
    new_name = classes.argsort()
    moved_student, moved_teacher = student[rows][:, classes], teacher[rows][:, classes]
    assert torch.isclose(kd(moved_student, moved_teacher, temperature), kd(student, teacher, temperature))
    assert torch.isclose(
        dkd(moved_student, moved_teacher, new_name[target[rows]], temperature, 1.0, 2.0),
        dkd(student, teacher, target, temperature, 1.0, 2.0),
    )


def test_gradients_are_right() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(3, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    target = torch.tensor([0, 3, 1])
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: kd(x, teacher, 4.0), (student,))
    assert torch.autograd.gradcheck(lambda x: dkd(x, teacher, target, 4.0, 1.0, 2.0), (student,))


@pytest.mark.parametrize("margin", [50.0, 300.0])
def test_sure_teacher_and_student_give_finite_losses_and_gradients(margin: float) -> None:
    teacher = torch.tensor([[margin, 0.0, -margin]])
    student = torch.tensor([[-margin, margin, 0.0]], requires_grad=True)
    loss = dkd(student, teacher, torch.tensor([0]), 1.0, 1.0, 2.0) + kd(student, teacher, 1.0)
    (gradient,) = torch.autograd.grad(loss, student)
    assert bool(torch.isfinite(loss))
    assert bool(torch.isfinite(gradient).all())
