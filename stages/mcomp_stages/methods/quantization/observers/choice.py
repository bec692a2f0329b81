"""From what a recipe says to an observer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mcomp_stages.methods.quantization.observers.config import ObserverChoice
from mcomp_stages.methods.quantization.observers.extremes import minmax, moving_average
from mcomp_stages.methods.quantization.observers.kl import kl
from mcomp_stages.methods.quantization.observers.mse import mse
from mcomp_stages.methods.quantization.observers.observer import Observer
from mcomp_stages.methods.quantization.observers.percentile import percentile

OBSERVERS: dict[str, Callable[[Any], Observer]] = {
    "minmax": minmax,
    "moving_average": moving_average,
    "percentile": percentile,
    "mse": mse,
    "kl": kl,
}


def observer_for(choice: ObserverChoice) -> Observer:
    """Return a fresh observer."""
    return OBSERVERS[choice.type](choice)
