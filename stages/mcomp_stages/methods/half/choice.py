"""Which weights are kept in 16 bits."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from mcomp.errors import StageError
from mcomp.model.select import select_modules

LARGEST = 65504.0  # the largest number of float16


def half_weights(module: nn.Module, keep_float: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the weights to keep in 16 bits, and the paths of the modules that stay in float.

    Weights have two axes or more: biases and the vectors of norms are small, and stay. Raises StageError if a
    pattern matches nothing, or if no weight is left.
    """
    kept = select_modules(module, keep_float) if keep_float else ()
    names = tuple(
        name
        for name, parameter in module.named_parameters()
        if parameter.ndim > 1 and parameter.is_floating_point() and not within(name, kept)
    )
    if not names:
        raise StageError("there is no weight left to keep in 16 bits")
    return names, kept


def within(name: str, modules: Sequence[str]) -> bool:
    """Whether a parameter is one of a module's, or of a module inside it."""
    return any(name.startswith(f"{path}.") for path in modules)


def require_fits(module: nn.Module, names: Sequence[str]) -> None:
    """Raise StageError naming the first weight that float16 has no number for."""
    for name in names:
        largest = module.get_parameter(name).detach().abs().max().item()
        if not largest <= LARGEST:
            layer = name.rpartition(".")[0]
            raise StageError(
                f"{name} has a weight of {largest:.6g}, and float16 ends at {LARGEST:.0f}; "
                f"use dtype: bfloat16, or keep_float: [{layer}]",
                module=layer,
            )
