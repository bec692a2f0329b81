"""Numbers of a loss that change while training."""

from __future__ import annotations

import math
from collections.abc import Callable

from mcomp_stages.methods.distillation.terms import Ramp

SHAPES: dict[str, Callable[[float], float]] = {
    "linear": lambda done: done,
    "cosine": lambda done: (1 - math.cos(math.pi * done)) / 2,
}


def value_at(number: float | Ramp, progress: float) -> float:
    """Return a number at `progress`, from 0 at the first update to 1 at the last."""
    if not isinstance(number, Ramp):
        return number
    done = SHAPES[number.shape](min(1.0, progress / number.until))
    return number.start + (number.end - number.start) * done
