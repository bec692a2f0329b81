"""The training after a part was taken away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcomp.model.model import Model
from mcomp.stage import Context, StageResult
from mcomp_stages.methods.distillation.config import DistilledTraining
from mcomp_stages.methods.distillation.training import fit_with_teachers


def recovered(
    model: Model, training: DistilledTraining | None, facts: Mapping[str, Any], context: Context
) -> StageResult:
    """Return the model, trained if there is a training, with the facts of both."""
    if training is None:
        return StageResult(model, facts=facts)
    fit = fit_with_teachers(model, training, context, "recover")
    return StageResult(fit.model, facts={**facts, **fit.facts()})


def trained_between(
    model: Model, training: DistilledTraining, epochs: int | None, context: Context, label: str
) -> Model:
    """Return a copy trained for some epochs (None: those of the training) before more is taken away."""
    shorter = training if epochs is None else training.model_copy(update={"epochs": epochs})
    return fit_with_teachers(model, shorter, context, label).model
