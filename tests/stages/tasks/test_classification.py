from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from mcomp.data.contract import DataFacts
from mcomp.errors import RecipeError, StageError
from mcomp_stages.tasks.classification import ClassificationConfig

LOGITS = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 3.0], [1.0, 0.0, 0.0]])


def test_loss_is_the_mean_cross_entropy() -> None:
    target = torch.tensor([0, 2, 1])
    rows = zip(LOGITS.tolist(), target.tolist(), strict=True)
    terms = [-row[label] + math.log(sum(math.exp(logit) for logit in row)) for row, label in rows]
    found = ClassificationConfig(num_classes=3).loss(LOGITS, target)
    assert found.item() == pytest.approx(sum(terms) / 3, rel=1e-6)


def test_metric_is_the_share_of_right_answers_whatever_the_classes() -> None:
    metric = ClassificationConfig(num_classes=3).metric()
    metric.update(LOGITS, torch.tensor([0, 2, 1]))
    metric.update(LOGITS[:2], torch.tensor([0, 0]))
    assert float(metric.compute()) == pytest.approx(3 / 5)


@pytest.mark.parametrize("label", [3, -1])
def test_a_label_without_an_output_is_named(label: int) -> None:
    with pytest.raises(StageError, match=f"label {label} in the data, but the model has 3 classes"):
        ClassificationConfig(num_classes=3).loss(LOGITS, torch.tensor([0, label, 1]))


@pytest.mark.parametrize(
    ("output", "told"),
    [
        (
            torch.zeros(3, 4, 5),
            r"numbers of shape \(4, 5\) for a sample, and classification needs one for each",
        ),
        (torch.zeros(3), r"numbers of shape \(\) for a sample"),
        ((LOGITS, LOGITS), "the model gives a tuple, and a task judges one tensor; let forward return"),
        ({"logits": LOGITS}, "the model gives a dict"),
        (torch.zeros(3, 32), "gives 32 numbers for 3 classes: .* or say num_classes: 32 of the task"),
    ],
)
def test_outputs_that_it_does_not_understand_are_refused(output: Any, told: str) -> None:
    with pytest.raises(StageError, match=told):
        ClassificationConfig(num_classes=3).loss(output, torch.tensor([0, 2, 1]))


def test_classes_come_from_the_data_unless_they_are_given() -> None:
    facts = DataFacts(num_classes=7)
    assert ClassificationConfig().fitted_to(facts).num_classes == 7
    assert ClassificationConfig(num_classes=3).fitted_to(facts).num_classes == 3


def test_unknown_classes_are_a_recipe_error() -> None:
    with pytest.raises(RecipeError, match="does not say num_classes"):
        ClassificationConfig().fitted_to(DataFacts()).metric()


def test_higher_accuracy_is_better() -> None:
    task = ClassificationConfig()
    assert (task.metric_name, task.direction) == ("accuracy", "higher")


@pytest.mark.parametrize(
    "name", ["accuracy", "balanced_accuracy", "f1", "auroc", "average_precision", "matthews", "kappa"]
)
def test_every_metric_is_perfect_for_perfect_answers_and_worse_for_others(name: str) -> None:
    target = torch.tensor([0, 1, 2, 0, 1, 2])
    right = torch.eye(3)[target] * 4
    task = ClassificationConfig(num_classes=3, by=name)
    assert score(task, right, target) == pytest.approx(1)
    assert score(task, right.roll(1, dims=0), target) < 0.7
    assert task.metric_name == name


def score(task: ClassificationConfig, output: torch.Tensor, target: torch.Tensor) -> float:
    metric = task.metric()
    for part in (slice(0, 2), slice(2, None)):
        metric.update(output[part], target[part])
    first = float(metric.compute())
    metric.reset()
    metric.update(output, target)
    assert float(metric.compute()) == pytest.approx(first)
    return first


def test_balanced_accuracy_and_f1_are_means_over_classes() -> None:
    target = torch.tensor([0, 0, 0, 1])
    always_0 = torch.tensor([[1.0, 0.0]] * 4)
    assert score(ClassificationConfig(num_classes=2, by="balanced_accuracy"), always_0, target) == 0.5
    f1_of_class_0 = 2 * 3 / (2 * 3 + 1)
    found = score(ClassificationConfig(num_classes=2, by="f1"), always_0, target)
    assert found == pytest.approx(f1_of_class_0 / 2)


def test_weights_let_samples_of_a_class_count_more() -> None:
    target = torch.tensor([0, 2, 1])
    rows = zip(LOGITS.tolist(), target.tolist(), strict=True)
    terms = [-row[label] + math.log(sum(math.exp(logit) for logit in row)) for row, label in rows]
    task = ClassificationConfig(num_classes=3, class_weights=(1.0, 4.0, 2.0))
    expected = (terms[0] + 2 * terms[1] + 4 * terms[2]) / 7
    assert task.loss(LOGITS, target).item() == pytest.approx(expected, rel=1e-6)


def test_balanced_weights_come_from_the_counts_of_the_data() -> None:
    facts = DataFacts(num_classes=3, class_counts=(10, 20, 60))
    fitted = ClassificationConfig(class_weights="balanced").fitted_to(facts)
    assert fitted.class_weights == pytest.approx((3.0, 1.5, 0.5))
    counted = [count * weight for count, weight in zip((10, 20, 60), fitted.class_weights, strict=True)]
    assert counted == pytest.approx([30] * 3)


@pytest.mark.parametrize(
    ("weights", "facts", "told"),
    [
        ("balanced", DataFacts(num_classes=3), "does not say before loading how many samples each class has"),
        ("balanced", DataFacts(num_classes=2, class_counts=(3, 0)), "how many samples each class has"),
        ((1.0, 2.0), DataFacts(num_classes=3), "2 weights for 3 classes"),
    ],
)
def test_weights_that_do_not_fit_the_data_are_refused(weights: object, facts: DataFacts, told: str) -> None:
    task = ClassificationConfig.model_validate({"class_weights": weights})
    with pytest.raises(RecipeError, match=told) as caught:
        task.fitted_to(facts)
    assert caught.value.problems[0].path == "class_weights"


def test_soft_labels_are_trained_on_and_judged_by_the_likeliest_class() -> None:
    soft = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.1, 0.9], [0.2, 0.7, 0.1]])
    task = ClassificationConfig(num_classes=3)
    expected = -(soft * LOGITS.log_softmax(1)).sum(1).mean()
    assert task.loss(LOGITS, soft).item() == pytest.approx(expected.item(), rel=1e-6)
    assert score(task, LOGITS, soft) == pytest.approx(2 / 3)
    with pytest.raises(StageError, match="both must have a number for each class"):
        task.loss(LOGITS, soft[:, :2])
