"""Training that follows teachers, or only the labels if there are none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mcomp.data.contract import Batch
from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp.recipe.schema import RecipeRef
from mcomp.stage import Context
from mcomp.training.device import borrowed_threads, chosen_device
from mcomp.training.loop import Fit, Prepare, fit
from mcomp.training.optimizers import OwnRates
from mcomp.training.update import Loss
from mcomp_stages.methods.distillation.config import DKD, KD, DistilledTraining
from mcomp_stages.methods.distillation.losses import dkd, kd
from mcomp_stages.methods.distillation.teachers import Teachers, teachers_on

# The distance between one teacher's output and the student's: (config, student, teacher, target) -> scalar.
DISTANCES: dict[str, Callable[[Any, Tensor, Tensor, Tensor], Tensor]] = {
    "kd": lambda config, student, teacher, target: kd(student, teacher, config.temperature),
    "dkd": lambda config, student, teacher, target: dkd(
        student, teacher, target, config.temperature, config.alpha, config.beta
    ),
}


def fit_with_teachers(
    model: Model,
    training: DistilledTraining,
    context: Context,
    label: str,
    *,
    own_rates: OwnRates | None = None,
    prepare: Prepare | None = None,
) -> Fit:
    """Return a trained copy of `model` (see `mcomp.training.loop.fit`), distilled if there are teachers.

    The loss is (1 - weight) of the task's loss and `weight` of the mean distance to the teachers.
    Raises StageError before training if a teacher's output has another shape than the student's.
    """
    task = context.task

    def task_loss(batch: Batch, output: Tensor) -> Tensor:
        return task.loss(output, batch.target)

    loss: Loss = task_loss
    if training.teachers:
        teachers = ready_teachers(model, training.teachers, context)
        loss = distilled_loss(task_loss, training.loss, teachers)
    return fit(model, training, context, label=label, loss=loss, own_rates=own_rates, prepare=prepare)


def distilled_loss(task_loss: Loss, config: KD | DKD, teachers: Teachers) -> Loss:
    """Return the task's loss mixed with the mean distance to the teachers."""
    distance = DISTANCES[config.type]

    def loss(batch: Batch, output: Tensor) -> Tensor:
        distances = [distance(config, output, teacher, batch.target) for teacher in teachers(batch)]
        distilled = torch.stack(distances).mean()
        return config.weight * distilled + (1 - config.weight) * task_loss(batch, output)

    return loss


def ready_teachers(student: Model, references: Sequence[RecipeRef], context: Context) -> Teachers:
    """Return the outputs of the teachers on the training split."""
    device = chosen_device(context.compute)
    modules = [inference_copy(context.models[reference], context, device) for reference in references]
    student_module = inference_copy(student, context, device)
    example = context.example.to(device)
    with borrowed_threads(context.compute.threads), torch.no_grad():
        shape = student_module(**example).shape
        for reference, module in zip(references, modules, strict=True):
            require_shape(module(**example).shape, shape, reference)
        return teachers_on(context.data.split("train"), modules, device)


def inference_copy(model: Model, context: Context, device: torch.device) -> nn.Module:
    """Return what serves a model, on `device`, with nothing shared."""
    return model.copy().inference_module(context.example).to(device)


def require_shape(teacher: torch.Size, student: torch.Size, reference: RecipeRef) -> None:
    """Raise StageError if a teacher does not answer the student's question."""
    if teacher != student:
        raise StageError(
            f"the teacher {reference.recipe} gives {tuple(teacher[1:])} for a sample, the student "
            f"{tuple(student[1:])}; they must have the same classes",
            about=reference,
        )
