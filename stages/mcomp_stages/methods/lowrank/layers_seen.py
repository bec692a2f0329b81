"""What a model's layers see in one run: which run at all, and on inputs and outputs of which shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from mcomp.measure.accuracy import in_inference_mode
from mcomp.model.fastpath import without_fastpath
from mcomp_stages.methods.lowrank.ranks import Positions


@dataclass(frozen=True)
class Seen:
    """The shapes of one call of a layer, and how often it was called."""

    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    calls: int = 1


def layers_seen(module: nn.Module, paths: Iterable[str], example: Mapping[str, Tensor]) -> dict[str, Seen]:
    """Return what each layer that runs on the example sees."""
    seen: dict[str, Seen] = {}

    def watch(path: str) -> Callable[..., None]:
        def hook(layer: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
            calls = seen[path].calls + 1 if path in seen else 1
            seen[path] = Seen(tuple(arguments[0].shape), tuple(output.shape), calls)

        return hook

    handles = [module.get_submodule(path).register_forward_hook(watch(path)) for path in paths]
    try:
        with in_inference_mode(module), torch.no_grad(), without_fastpath():
            module(**example)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def positions(layer: nn.Module, seen: Seen) -> Positions:
    """Return how often one sample uses the weights of a layer."""
    if isinstance(layer, nn.Linear):
        per_sample = seen.calls * prod(seen.input_shape[1:-1])
        return Positions(per_sample, per_sample)
    return Positions(seen.calls * prod(seen.input_shape[2:]), seen.calls * prod(seen.output_shape[2:]))
