from __future__ import annotations

import math

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
