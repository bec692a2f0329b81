from __future__ import annotations

import math
from collections.abc import Sequence
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
from mcomp_stages.methods.distillation.config import DistilledTraining
from mcomp_stages.methods.distillation.losses import dist, dkd, kd, standardized
from mcomp_stages.methods.distillation.taught import Taught
from mcomp_stages.methods.distillation.teachers import OUTPUT
from mcomp_stages.methods.distillation.terms import (
    DKD,
    KD,
    Dist,
    Ramp,
    SquaredError,
    TemperatureRamp,
)
from mcomp_stages.methods.distillation.training import Lesson, fit_with_teachers
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


def lesson(loss: Any, teachers: Sequence[Tensor], **fields: Any) -> Lesson:
    """Return a lesson in which teachers say what is given, and the student is in the first of two updates."""
    references = [RecipeRef(recipe=f"{number}.yaml") for number in range(len(teachers))]
    training = DistilledTraining.model_validate({"epochs": 1, "teachers": references, "loss": loss, **fields})
    teach = [lambda batch, output=output: {OUTPUT: output} for output in teachers]
    return Lesson(training, make_context(), "distill", teach, Taught(nn.Identity(), 2, []))


def test_loss_mixes_the_labels_with_the_mean_distance_to_the_teachers() -> None:
    mixed = lesson(KD(temperature=3, weight=0.25), TEACHERS).loss(BATCH, (LOGITS, {}))
    distance = (kd(LOGITS, TEACHERS[0], 3).mean() + kd(LOGITS, TEACHERS[1], 3).mean()) / 2
    assert torch.isclose(mixed, 0.25 * distance + 0.75 * label_loss(BATCH, LOGITS))


def test_every_field_of_dkd_counts() -> None:
    config = DKD(temperature=3, weight=1, alpha=0.5, beta=5)
    found = lesson(config, TEACHERS[:1]).loss(BATCH, (LOGITS, {}))
    assert torch.isclose(found, dkd(LOGITS, TEACHERS[0], BATCH.target, 3, 0.5, 5).mean())


def test_terms_are_summed_and_leave_the_rest_to_the_labels() -> None:
    terms = [KD(weight=0.25, temperature=2, standardize=True), Dist(weight=0.5, inter=1, intra=3)]
    found = lesson(terms, TEACHERS[:1]).loss(BATCH, (LOGITS, {}))
    alike = kd(standardized(LOGITS), standardized(TEACHERS[0]), 2).mean()
    correlated = dist(LOGITS, TEACHERS[0], 2, 1, 3).mean()
    assert torch.isclose(found, 0.25 * alike + 0.5 * correlated + 0.25 * label_loss(BATCH, LOGITS))


@pytest.mark.parametrize(("updates", "weight", "temperature"), [(1, 0.2, 8.0), (2, 0.6, 2.0)])
def test_weights_and_temperatures_follow_the_training(
    updates: int, weight: float, temperature: float
) -> None:
    config = KD(weight=Ramp(start=0.2, end=0.6), temperature=TemperatureRamp(start=8, end=2))
    now = lesson(config, TEACHERS[:1])
    assert now.taught is not None
    now.taught.num_made += updates
    distance = kd(LOGITS, TEACHERS[0], temperature).mean()
    expected = weight * distance + (1 - weight) * label_loss(BATCH, LOGITS)
    assert torch.isclose(now.loss(BATCH, (LOGITS, {})), expected)


def test_without_weight_for_labels_nobody_looks_at_them() -> None:
    no_labels = Batch(BATCH.indices, {}, torch.zeros(2, 0))
    found = lesson(SquaredError(weight=1), TEACHERS[:1]).loss(no_labels, (LOGITS, {}))
    assert torch.isclose(found, (LOGITS - TEACHERS[0]).square().mean())
    assert torch.isclose(
        lesson(SquaredError(weight=0.5), TEACHERS[:1], labels=0).loss(no_labels, (LOGITS, {})), found / 2
    )


def test_weighted_teachers_count_by_their_share() -> None:
    ensemble = {"type": "weighted", "weights": [3, 1]}
    found = lesson(KD(weight=1), TEACHERS, ensemble=ensemble).loss(BATCH, (LOGITS, {}))
    first, second = (kd(LOGITS, each, 4).mean() for each in TEACHERS)
    assert torch.isclose(found, 0.75 * first + 0.25 * second)


def test_teachers_count_more_on_samples_that_they_get_right() -> None:
    found = lesson(KD(weight=1), TEACHERS, ensemble={"type": "confidence"}).loss(BATCH, (LOGITS, {}))
    total = 0.0
    for sample, label in enumerate(BATCH.target.tolist()):
        losses = [-float(torch.log_softmax(each[sample], 0)[label]) for each in TEACHERS]
        powers = [math.exp(loss) for loss in losses]
        for teacher, power in zip(TEACHERS, powers, strict=True):
            total += (1 - power / sum(powers)) * float(kd(LOGITS, teacher, 4)[sample])
    assert found.item() == pytest.approx(total / 2, rel=1e-5)


def test_without_teachers_it_is_training_on_labels() -> None:
    distilled = fit_with_teachers(small_model(), DistilledTraining(epochs=2), make_context(), "recover")
    plain = fit(small_model(), Training(epochs=2), make_context(), label="recover", loss=label_loss)
    assert same(weights(distilled.model), weights(plain.model))


def test_student_believes_its_teacher_and_not_the_labels() -> None:
    long = Training(epochs=30, optimizer=AdamW(lr=0.03), keep="last")
    teacher = fit(small_model(seed=3), long, make_context(), label="teacher", loss=label_loss).model
    for parameter in teacher.module.get_submodule("fc").parameters():
        parameter.data = parameter.data.roll(1, dims=0)  # a teacher that is sure, and one class off
    training = DistilledTraining(
        epochs=30, optimizer=AdamW(lr=0.03), keep="last", teachers=(FIRST,), loss=(KD(weight=1),)
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


@pytest.mark.parametrize("ensemble", [{"type": "mean"}, {"type": "confidence"}])
def test_what_needs_labels_says_so_before_training(ensemble: dict[str, str]) -> None:
    data = unlabelled()
    loss = DKD(weight=1) if ensemble["type"] == "mean" else KD(weight=1)
    training = DistilledTraining.model_validate(
        {"epochs": 1, "teachers": (FIRST,), "loss": loss, "ensemble": ensemble}
    )
    context = make_context(data, models={FIRST: small_model(3)})
    with pytest.raises(StageError, match="needs the class of each sample"):
        fit_with_teachers(small_model(), training, context, "distill")


def test_a_student_learns_from_unlabelled_data() -> None:
    long = Training(epochs=30, optimizer=AdamW(lr=0.03), keep="last")
    teacher = fit(small_model(seed=3), long, make_context(), label="teacher", loss=label_loss).model
    training = DistilledTraining(
        epochs=30, optimizer=AdamW(lr=0.03), keep="last", teachers=(FIRST,), loss=(KD(weight=1),)
    )
    student = fit_with_teachers(
        small_model(), training, make_context(unlabelled(), models={FIRST: teacher}), "d"
    )
    test = small_data().split("test")
    says = (each.module(test.inputs["image"]).argmax(1) for each in (student.model, teacher))
    assert torch.stack(list(says)).diff(dim=0).eq(0).float().mean() > 0.9


def unlabelled() -> Splits:
    """Return data whose training split has no targets, as a data set without labels gives them."""
    data = small_data()
    train = replace(data.split("train"), target=torch.zeros(49, 0))
    return Splits({**data.by_name, "train": train})


def test_classes_are_not_compared_where_there_are_none() -> None:
    teacher, student = small_model(3), small_model()
    for model in (teacher, student):
        model.module.add_module("fc", nn.Linear(4, 1))
    training = DistilledTraining(epochs=1, teachers=(FIRST,))
    with pytest.raises(
        StageError, match=r"kd compares classes, but an output is \(1,\) for a sample; use mse"
    ):
        fit_with_teachers(student, training, make_context(models={FIRST: teacher}), "distill")
