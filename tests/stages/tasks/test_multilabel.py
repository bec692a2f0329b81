from __future__ import annotations

import math

import pytest
import torch

from mcomp.data.contract import DataFacts
from mcomp.errors import RecipeError, StageError
from mcomp_stages.tasks.multilabel import MultilabelConfig

LOGITS = torch.tensor([[2.0, -1.0], [-0.5, 3.0], [1.0, 0.5]])
LABELS = torch.tensor([[1, 0], [1, 1], [0, 1]])


def slow_loss(weights: tuple[float, float]) -> float:
    terms = []
    for logits, labels in zip(LOGITS.tolist(), LABELS.tolist(), strict=True):
        for logit, label, weight in zip(logits, labels, weights, strict=True):
            yes = 1 / (1 + math.exp(-logit))
            terms.append(-weight * math.log(yes) if label else -math.log(1 - yes))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (3.0, 0.5)])
def test_each_label_is_a_question_of_its_own(weights: tuple[float, float]) -> None:
    task = MultilabelConfig(num_classes=2, positive_weights=weights)
    assert task.loss(LOGITS, LABELS).item() == pytest.approx(slow_loss(weights), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("accuracy", 4 / 6), ("exact_match", 1 / 3), ("f1", (2 / 4 + 1) / 2)],
)
def test_metrics_are_those_of_hand(name: str, expected: float) -> None:
    metric = MultilabelConfig(num_classes=2, by=name).metric()
    metric.update(LOGITS[:1], LABELS[:1])
    metric.update(LOGITS[1:], LABELS[1:].float() * 0.8)  # soft: a probability of 0.8 is a yes
    assert float(metric.compute()) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["auroc", "average_precision"])
def test_ranks_of_perfect_answers_are_perfect(name: str) -> None:
    metric = MultilabelConfig(num_classes=2, by=name).metric()
    metric.update((LABELS.float() - 0.5) * 3, LABELS)
    assert float(metric.compute()) == 1


def test_the_shares_of_classes_are_of_the_samples_that_have_the_label() -> None:
    right, count = MultilabelConfig().class_hits(LOGITS, LABELS)
    assert (right.tolist(), count.tolist()) == ([1, 2], [2, 2])


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (LABELS[:, :1], r"the model gives \(2,\) for a sample, and the data has \(1,\)"),
        (LABELS * 2, "labels in the data go from 0 to 2"),
        (LABELS - 1, "labels in the data go from -1 to 0"),
    ],
)
def test_targets_that_are_no_labels_are_refused(labels: torch.Tensor, told: str) -> None:
    with pytest.raises(StageError, match=told):
        MultilabelConfig(num_classes=2).loss(LOGITS, labels)


def test_weights_need_a_number_for_each_label() -> None:
    with pytest.raises(StageError, match="3 positive_weights for 2 labels"):
        MultilabelConfig(positive_weights=(1.0, 1.0, 1.0)).loss(LOGITS, LABELS)


def test_the_number_of_labels_comes_from_the_data_or_the_recipe() -> None:
    assert MultilabelConfig().fitted_to(DataFacts(num_classes=4)).num_classes == 4
    with pytest.raises(RecipeError, match="multilabel: the data does not say num_classes"):
        MultilabelConfig().metric()
