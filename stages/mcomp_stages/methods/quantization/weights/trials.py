"""Weights brought into few bits one by one, for `mcomp sensitivity`, and the overrides that follow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from mcomp.model.model import Model
from mcomp.sensitivity.trials import Trial, Trials
from mcomp_stages.methods.quantization.weights.choice import Chosen
from mcomp_stages.methods.quantization.weights.compress import Compression, compressed
from mcomp_stages.methods.quantization.weights.config import WeightOverride
from mcomp_stages.methods.quantization.widths import overrides_patch, tried, widths


def weight_trials(
    model: Model,
    chosen: Sequence[Chosen],
    compression: Compression,
    overrides: Sequence[WeightOverride] = (),
    levels: Sequence[float] = (),
) -> Trials:
    """Return the trials of a stage that brings `chosen` into few bits: the others keep their floats.

    `levels` are widths; by default each weight's own, and 8 bits as well for those of fewer than 7. Raises
    StageError for other widths.
    """
    asked = widths(levels)
    trials = [
        Trial(each.path, bits, partial(alone, model, each, bits, compression))
        for each in chosen
        for bits in tried(each.settings.bits, asked)
    ]
    layers = {each.path: (int(each.settings.bits), (each.path,)) for each in chosen}

    def at_width(bits: int) -> dict[str, Any]:
        return {"bits": bits}

    return Trials(
        model.copy().module.eval(),
        tuple(trials),
        lambda borne: overrides_patch(layers, overrides, borne, at_width),
    )


@contextmanager
def alone(model: Model, chosen: Chosen, bits: int, compression: Compression) -> Iterator[nn.Module]:
    """Give the model with one weight in so many bits, while the block runs."""
    settings = chosen.settings.model_copy(update={"bits": bits})
    one = replace(chosen, settings=settings)
    yield compressed(model, [one], compression, lambda label, compute: compute())[0].module.eval()
