"""The ways in which a network can be its own teacher."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mcomp.model.model import Model
from mcomp.stage import Context
from mcomp.training.config import Training
from mcomp.training.loop import Fit
from mcomp_stages.methods.distillation.exits import fit_with_exits
from mcomp_stages.methods.distillation.generations import born_again
from mcomp_stages.methods.distillation.past import fit_with_past
from mcomp_stages.methods.distillation.self_config import BornAgain, OwnTeacher, PastSelf

Taught = tuple[Model, dict[str, Any]]


def alone(fitted: Callable[[Model, Any, Training, Context], Fit]) -> Callable[..., Taught]:
    """Return what gives the model of a training, and its facts."""

    def taught(model: Model, config: Any, training: Training, context: Context) -> Taught:
        result = fitted(model, config, training, context)
        return result.model, result.facts()

    return taught


METHODS: dict[str, Callable[[Model, Any, Training, Context], Taught]] = {
    "byot": alone(fit_with_exits),
    "ps_kd": alone(fit_with_past),
    "born_again": born_again,
}


def taught_by_itself(
    model: Model, config: OwnTeacher | PastSelf | BornAgain, training: Training, context: Context
) -> Taught:
    """Return a network that was its own teacher, and facts about it. Raises StageError."""
    return METHODS[config.type](model, config, training, context)
