"""Which weights of a model are kept in few bits, and how each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch import nn

from mcomp.errors import StageError
from mcomp.model.select import select_modules
from mcomp_stages.methods.layer_inputs import LAYERS, Layer
from mcomp_stages.methods.quantization.weights.config import WeightOverride, WeightSettings

Holder: TypeAlias = Layer | nn.Embedding


@dataclass(frozen=True)
class Chosen:
    """A layer whose weight is kept in few bits: its path, the weight's own name, and the settings."""

    path: str
    name: str
    layer: Holder
    settings: WeightSettings


def chosen_weights(
    module: nn.Module,
    settings: WeightSettings,
    keep_float: Sequence[str] = (),
    overrides: Sequence[WeightOverride] = (),
) -> tuple[Chosen, ...]:
    """Return the linears, convolutions and embeddings to compress, in the module's order.

    A weight that several layers share is there once, with the settings of the first. Raises StageError if a
    pattern matches none of them, or if none is left.
    """
    layers = layers_with_weights(module)
    asked: dict[str, WeightSettings | None] = dict.fromkeys(layers, settings)
    kept = [WeightOverride(modules=pattern, keep_float=True) for pattern in keep_float]
    for override in (*kept, *overrides):
        for path in inside(module, layers, override.modules):
            asked[path] = None if override.keep_float else override.applied(asked[path] or settings)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    chosen: dict[str, Chosen] = {}
    for path, layer in layers.items():
        found = asked[path]
        if found is not None:
            name = names[id(layer.weight)]
            chosen.setdefault(name, Chosen(path, name, layer, found))
    if not chosen:
        raise StageError("there is no linear, convolution or embedding left to compress")
    return tuple(chosen.values())


def layers_with_weights(module: nn.Module) -> dict[str, Holder]:
    """Return what can be compressed, by path."""
    return {path: part for path, part in module.named_modules() if isinstance(part, (*LAYERS, nn.Embedding))}


def inside(module: nn.Module, layers: Mapping[str, Holder], pattern: str) -> list[str]:
    """Return the layers that a pattern matches, or that lie in a module that it matches."""
    selected = select_modules(module, [pattern])
    found = [
        layer for layer in layers if any(layer == path or layer.startswith(f"{path}.") for path in selected)
    ]
    if not found:
        what = f"'{pattern}' matches {selected[0]}, which has no weight that can be kept in few bits"
        raise StageError(what, about=pattern)
    return found
