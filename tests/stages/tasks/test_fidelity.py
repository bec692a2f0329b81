from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from mcomp.errors import StageError
from mcomp_stages.tasks.fidelity import FidelityConfig
from mcomp_stages.tasks.following import cosines, probability_loss

COSINE, AGREEMENT = FidelityConfig(by="cosine"), FidelityConfig(by="agreement")
LOGITS = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 3.0], [1.0, 0.0, 0.5]])


def slow_cosine(left: list[float], right: list[float]) -> float:
    product = sum(a * b for a, b in zip(left, right, strict=True))
    return product / math.sqrt(sum(a * a for a in left)) / math.sqrt(sum(b * b for b in right))


def score(task: FidelityConfig, *pairs: tuple[Tensor, Tensor]) -> float:
    metric = task.metric()
    for output, target in pairs:
        metric.update(output, target)
    return float(metric.compute())


def test_the_cosine_is_the_mean_over_samples_whatever_the_batches() -> None:
    generator = torch.Generator().manual_seed(0)
    output, target = torch.randn(2, 7, 4, generator=generator)
    expected = sum(slow_cosine(*each) for each in zip(output.tolist(), target.tolist(), strict=True)) / 7
    assert score(COSINE, (output, target)) == pytest.approx(expected, rel=1e-6)
    assert score(COSINE, (output[:2], target[:2]), (output[2:], target[2:])) == pytest.approx(expected)
    assert float(COSINE.loss(output, target)) == pytest.approx(1 - expected, rel=1e-5)


@given(arrays("float32", (3, 4), elements=st.floats(-100, 100, width=32)), st.floats(0.01, 100))
def test_the_cosine_does_not_see_lengths_and_never_leaves_its_range(numbers: object, factor: float) -> None:
    vectors = torch.tensor(numbers)
    found = cosines(vectors * factor, vectors)
    lengths = vectors.double().norm(dim=1)
    assert torch.allclose(found[(lengths > 1e-3) | (lengths == 0)], torch.tensor(1.0).double(), atol=1e-4)
    assert found.abs().max() <= 1 + 1e-6


def test_agreement_is_the_share_of_equal_choices() -> None:
    other = LOGITS.clone()
    other[1, 1] = 4.0
    assert score(AGREEMENT, (LOGITS * 3, LOGITS)) == 1
    assert score(AGREEMENT, (other, LOGITS)) == pytest.approx(2 / 3)


def test_agreement_trains_on_the_probabilities_of_the_baseline() -> None:
    output = torch.tensor([[0.0, 1.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    terms = []
    for said, wanted in zip(output.tolist(), LOGITS.tolist(), strict=True):
        p, q = ([math.exp(x) / sum(map(math.exp, row)) for x in row] for row in (wanted, said))
        terms.append(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    assert float(AGREEMENT.loss(output, LOGITS)) == pytest.approx(sum(terms) / 3, rel=1e-5)
    assert float(probability_loss(LOGITS + 5, LOGITS)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("task", [COSINE, AGREEMENT])
def test_what_it_trains_towards_is_what_it_counts(task: FidelityConfig) -> None:
    output = torch.randn(3, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
    for _ in range(200):
        (gradient,) = torch.autograd.grad(task.loss(output, LOGITS), output)
        output = (output - gradient).detach().requires_grad_()
    assert score(task, (output, LOGITS)) > 0.99


@pytest.mark.parametrize("task", [COSINE, AGREEMENT])
def test_a_model_that_answers_in_another_shape_is_refused(task: FidelityConfig) -> None:
    with pytest.raises(StageError, match=r"gives \(2,\) for a sample, the baseline \(3,\)"):
        task.loss(LOGITS[:, :2], LOGITS)
    with pytest.raises(StageError, match="must be the same"):
        task.metric().update(LOGITS[:, :2], LOGITS)


def test_it_is_named_by_what_it_compares_and_higher_is_better() -> None:
    assert [(task.metric_name, task.direction, task.chooses) for task in (COSINE, AGREEMENT)] == [
        ("cosine", "higher", False),
        ("agreement", "higher", True),
    ]
