from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mcomp.data.contract import Batch
from mcomp.data.splits import Splits
from mcomp.errors import StageError
from mcomp.recipe.schema import RecipeRef
from mcomp.training.config import SGD, AdamW, Training
from mcomp.training.loop import fit
from mcomp_stages.methods.distillation.config import DKD, KD, DistilledTraining
from mcomp_stages.methods.distillation.losses import dkd, kd
from mcomp_stages.methods.distillation.teachers import teachers_on
from mcomp_stages.methods.distillation.training import distilled_loss, fit_with_teachers
from tests.mcomp.training.setting import (
    Quiet,
    label_loss,
    make_context,
    same,
    small_data,
    small_model,
    weights,
)

FIRST, SECOND = RecipeRef(recipe="first.yaml"), RecipeRef(recipe="second.yaml")
LOGITS = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]])
TEACHERS = torch.tensor([[[2.0, 0.0, 1.0], [1.0, 1.0, 4.0]], [[0.0, 5.0, 1.0], [0.0, 2.0, 2.0]]])
BATCH = Batch(torch.tensor([0, 1]), {}, torch.tensor([1, 2]))


def test_loss_mixes_the_labels_with_the_mean_distance_to_the_teachers() -> None:
    config = KD(temperature=3, weight=0.25)
    mixed = distilled_loss(label_loss, config, lambda batch: TEACHERS)(BATCH, LOGITS)
    distance = (kd(LOGITS, TEACHERS[0], 3) + kd(LOGITS, TEACHERS[1], 3)) / 2
    assert torch.isclose(mixed, 0.25 * distance + 0.75 * label_loss(BATCH, LOGITS))


def test_every_field_of_dkd_counts() -> None:
    config = DKD(temperature=3, weight=1, alpha=0.5, beta=5)
    found = distilled_loss(label_loss, config, lambda batch: TEACHERS[:1])(BATCH, LOGITS)
    assert torch.isclose(found, dkd(LOGITS, TEACHERS[0], BATCH.target, 3, 0.5, 5))


def test_without_teachers_it_is_training_on_labels() -> None:
    distilled = fit_with_teachers(small_model(), DistilledTraining(epochs=2), make_context(), "recover")
    plain = fit(small_model(), Training(epochs=2), make_context(), label="recover", loss=label_loss)
    assert same(weights(distilled.model), weights(plain.model))


def test_student_believes_its_teacher_and_not_the_labels() -> None:
    long = Training(epochs=30, optimizer=AdamW(lr=0.03), keep="last")
    teacher = fit(small_model(seed=3), long, make_context(), label="", loss=label_loss).model
    for parameter in teacher.module.get_submodule("fc").parameters():
        parameter.data = parameter.data.roll(1, dims=0)  # a teacher that is sure, and one class off
    training = DistilledTraining(
        epochs=30, optimizer=AdamW(lr=0.03), keep="last", teachers=(FIRST,), loss=KD(weight=1)
    )
    context = make_context(models={FIRST: teacher})
    student = fit_with_teachers(small_model(), training, context, "distill").model
    test = small_data().split("test")
    says = student.module(test.inputs["image"]).argmax(1)
    assert (says == (test.target + 1) % 3).float().mean() > 0.9


def test_teachers_stay_as_they_were() -> None:
    teacher = small_model(seed=3)
    before = weights(teacher)
    training = DistilledTraining(epochs=1, teachers=(FIRST, SECOND))
    context = make_context(models={FIRST: teacher, SECOND: small_model(seed=4)})
    fit_with_teachers(small_model(), training, context, "distill")
    assert same(weights(teacher), before)
    assert all(parameter.grad is None for parameter in teacher.module.parameters())


def test_teacher_of_other_classes_is_refused_before_training() -> None:
    teacher = small_model()
    assert isinstance(teacher.module.get_submodule("fc"), nn.Linear)
    teacher.module.add_module("fc", nn.Linear(4, 5))
    training = DistilledTraining(epochs=1, teachers=(FIRST,), optimizer=SGD())
    context = make_context(models={FIRST: teacher})
    with pytest.raises(StageError, match=r"first\.yaml gives \(5,\) for a sample, the student \(3,\)"):
        fit_with_teachers(small_model(), training, context, "distill")
    assert isinstance(context.reporter, Quiet)
    assert context.reporter.steps == 0


class Counting(nn.Module):
    """Says the mean of each image, and counts how many times it saw each."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[float] = Counter()

    def forward(self, image: Tensor) -> Tensor:
        means = image.mean((1, 2, 3))
        self.seen.update(means.tolist())
        return torch.stack([means, -means], dim=1)


@pytest.mark.parametrize(("augmented", "times"), [(False, 1), (True, 3)])
def test_each_teacher_sees_a_sample_once_unless_samples_change(augmented: bool, times: int) -> None:
    split: Any = replace(small_data().split("train"), augmented=augmented)
    data = Splits({"train": split})
    teacher = Counting()
    teachers = teachers_on(data.split("train"), [teacher], torch.device("cpu"))
    for positions in (torch.arange(49), torch.arange(48, -1, -1), torch.randperm(49)):
        batch = split.batch(positions)
        expected = batch.inputs["image"].mean((1, 2, 3))
        assert torch.allclose(teachers(batch)[0, :, 0], expected)
    assert set(teacher.seen.values()) == {times}
