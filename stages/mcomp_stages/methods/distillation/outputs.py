"""The terms of a loss that compare outputs, and what they need of the data."""

# N = samples, C = classes
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from mcomp.errors import StageError
from mcomp_stages.methods.distillation.losses import (
    cosine_distance,
    dist,
    dkd,
    kd,
    squared_error,
    standardized,
)
from mcomp_stages.methods.distillation.schedule import value_at
from mcomp_stages.methods.distillation.terms import Softened, Standardizing

# The distance between one teacher's output and the student's: (config, student, teacher, target, temperature)
# -> (N,).
DISTANCES: dict[str, Callable[[Any, Tensor, Tensor, Tensor, float], Tensor]] = {
    "kd": lambda config, student, teacher, target, temperature: kd(student, teacher, temperature),
    "dkd": lambda config, student, teacher, target, temperature: dkd(
        student, teacher, target, temperature, config.alpha, config.beta
    ),
    "dist": lambda config, student, teacher, target, temperature: dist(
        student, teacher, temperature, config.inter, config.intra
    ),
    "mse": lambda config, student, teacher, target, temperature: squared_error(student, teacher),
    "cosine": lambda config, student, teacher, target, temperature: cosine_distance(student, teacher),
}


def output_distance(config: Any, student: Tensor, teacher: Tensor, target: Tensor, progress: float) -> Tensor:
    """Return how far a student's outputs are from a teacher's, (N,)."""
    if isinstance(config, Standardizing) and config.standardize:
        student, teacher = standardized(student), standardized(teacher)
    temperature = value_at(config.temperature, progress) if isinstance(config, Softened) else 1.0
    return DISTANCES[config.type](config, student, teacher, target, temperature)


def require_classes(config: Any, output: Tensor) -> None:
    """Raise StageError if a term about classes gets outputs that are none."""
    kind = config.type
    if isinstance(config, Softened) and (output.ndim != 2 or output.shape[1] < 2):
        raise StageError(
            f"{kind} compares classes, but an output is {tuple(output.shape[1:])} for a sample; "
            "use mse or cosine",
            about=config,
        )


def require_labels(config: Any, target: Tensor, why: str) -> None:
    """Raise StageError if something that needs the class of each sample gets other targets."""
    if target.ndim != 1 or target.is_floating_point():
        raise StageError(f"{why} needs the class of each sample, and the data has none", about=config)
