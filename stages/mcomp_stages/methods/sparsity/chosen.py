"""The weights that may become zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from mcomp.errors import StageError
from mcomp.model.select import select_modules
from mcomp_stages.methods.layer_inputs import Layer, layers_of


@dataclass(frozen=True)
class Chosen:
    """A parameter that may become zero, by its own name, and the layer at `path` that it belongs to."""

    path: str
    name: str
    layer: Layer
    parameter: nn.Parameter

    @property
    def is_bias(self) -> bool:
        """Whether it is added and not multiplied."""
        return self.parameter is self.layer.bias


def chosen_weights(
    module: nn.Module, layers: Sequence[str] | None = None, skip: Sequence[str] = (), *, biases: bool = False
) -> tuple[Chosen, ...]:
    """Return the weights of linears and convolutions, in the module's order; their biases too if asked for.

    A weight that several layers share is there once. Raises StageError if a pattern matches nothing, or no
    layer is left.
    """
    asked = layers_inside(module, layers)
    left_out = {path for pattern in skip for path in layers_inside(module, [pattern])}
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    chosen: dict[str, Chosen] = {}
    for path, layer in asked.items():
        if path in left_out:
            continue
        parameters = [layer.weight, layer.bias] if biases else [layer.weight]
        for parameter in parameters:
            if isinstance(parameter, nn.Parameter):
                name = names[id(parameter)]
                chosen.setdefault(name, Chosen(path, name, layer, parameter))
    if not chosen:
        raise StageError("there is no linear or convolution left to set weights of to zero")
    return tuple(chosen.values())


def layers_inside(module: nn.Module, patterns: Sequence[str] | None) -> dict[str, Layer]:
    """Return the linears and convolutions that patterns match, or that lie in what they match.

    Raises StageError for a pattern that matches nothing, or nothing of this kind.
    """
    every = layers_of(module)
    if patterns is None:
        return every
    found: dict[str, Layer] = {}
    for pattern in patterns:
        selected = select_modules(module, [pattern])
        inside = {
            path: layer
            for path, layer in every.items()
            if any(path == each or path.startswith(f"{each}.") for each in selected)
        }
        if not inside:
            raise StageError(
                f"'{pattern}' matches {selected[0]}, which has no linear or convolution", about=pattern
            )
        found |= inside
    return {path: layer for path, layer in every.items() if path in found}
