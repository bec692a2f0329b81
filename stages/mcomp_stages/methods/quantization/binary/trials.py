"""Layers made binary one by one, before any training, and the layers to keep in float."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from torch import Tensor, nn

from mcomp.model.model import Model
from mcomp.sensitivity.trials import Trial, Trials
from mcomp_stages.methods.quantization.placement import Layer
from mcomp_stages.methods.quantization.widths import keep_float_patch, require_own_width

Changed = Callable[[tuple[Layer, ...]], Model]


def binary_trials(
    model: Model,
    layers: Sequence[Layer],
    changed: Changed,
    example: Mapping[str, Tensor],
    bits: int,
    keep_float: Sequence[str] = (),
    levels: Sequence[float] = (),
) -> Trials:
    """Return the trials of a stage that gives the weights of `layers` so many bits.

    `changed` gives the calibrated model with some of them changed, and what stands around these. Layers that
    share a weight are one part. Raises StageError for other widths.
    """
    require_own_width(bits, levels)
    parts: dict[str, list[Layer]] = {}
    for layer in layers:
        parts.setdefault(layer.weight, []).append(layer)
    trials = [
        Trial(found[0].path, bits, partial(alone, changed, tuple(found), example)) for found in parts.values()
    ]
    paths = {found[0].path: tuple(dict.fromkeys(each.path for each in found)) for found in parts.values()}
    return Trials(model.copy().module.eval(), tuple(trials), partial(keep_float_patch, keep_float, paths))


@contextmanager
def alone(changed: Changed, layers: tuple[Layer, ...], example: Mapping[str, Tensor]) -> Iterator[nn.Module]:
    """Give the model with these layers changed, while the block runs."""
    yield changed(layers).training_module(example).eval()
