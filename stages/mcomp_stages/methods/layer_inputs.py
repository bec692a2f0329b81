# N = positions seen, K = inputs of each output (kernel flattened), G = groups of a convolution
"""What the layers of a model see while calibration samples run through it, taken by hooks.

Nothing is kept but what the caller makes of each batch, and the run ends behind the last layer that is asked
for. Works on any module, also on one that torch.export refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from math import prod
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from mcomp.errors import StageError
from mcomp.signals import raise_if_interrupted
from mcomp_stages.methods.layer_hessian import HessianSum

Convolution: TypeAlias = nn.Conv1d | nn.Conv2d
Layer: TypeAlias = nn.Linear | Convolution
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)

LARGEST_ROWS = 2**24  # numbers in one piece of unfolded inputs: 64 MB
# Positions of one image that count; more are neighbours that look alike, at the price of K * K products each.
MOST_POSITIONS = 256

Inputs = Mapping[str, Tensor]


class EverythingSeen(Exception):
    """Ends a run of the model early; never leaves this file."""


def layers_of(module: nn.Module) -> dict[str, Layer]:
    """Return the linears and convolutions of a module by path; one that has several paths under the first."""
    return {path: part for path, part in module.named_modules() if isinstance(part, LAYERS)}


def input_rows(layer: Layer, x: Tensor) -> Tensor:
    """Return the inputs of a layer as (G, N, K): its outputs in group g are these times the group's weights.

    Of a convolution's positions in an image some 256 are taken, evenly.
    """
    if isinstance(layer, nn.Linear):
        return x.reshape(1, -1, x.shape[-1])
    padded = functional.pad(x, padding_of(layer), mode=PAD_MODES[layer.padding_mode])
    if isinstance(layer, nn.Conv1d):
        padded, window = padded.unsqueeze(2), (1, *layer.kernel_size)
        stride, dilation = (1, *layer.stride), (1, *layer.dilation)
    else:
        window, stride, dilation = layer.kernel_size, layer.stride, layer.dilation
    patches = functional.unfold(
        padded, window, dilation, stride=stride
    )  # (batch, channels * window, positions)
    every = (
        -(-patches.shape[-1] // MOST_POSITIONS) | 1
    )  # odd: an even step meets the same columns in each row
    patches = patches[..., ::every]
    grouped = patches.reshape(len(patches), layer.groups, -1, patches.shape[-1])
    return grouped.permute(1, 0, 3, 2).flatten(1, 2)


PAD_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}


def padding_of(layer: Convolution) -> list[int]:
    """Return what functional.pad takes: both ends of the last axis first."""
    if layer.padding == "valid":
        return [0, 0] * len(layer.kernel_size)
    if layer.padding == "same":
        spans = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        ends = [(span // 2, span - span // 2) for span in spans]
    else:
        ends = [(int(end), int(end)) for end in layer.padding]
    return [end for both in reversed(ends) for end in both]


def layer_hessians(module: nn.Module, batches: Iterable[Inputs], paths: Sequence[str]) -> dict[str, Tensor]:
    """Return the Hessians (G, K, K) of some layers by path, one for each group of a convolution.

    Raises StageError naming the layer if its inputs are not finite, all zero, or all the same.
    """
    layers = {path: layer for path, layer in layers_of(module).items() if path in paths}
    sums = {path: HessianSum(num_groups(layer), layer.weight[0].numel()) for path, layer in layers.items()}

    def add(path: str, x: Tensor) -> None:
        with blamed_on(path):
            for piece in pieces(layers[path], x):
                sums[path].add(input_rows(layers[path], piece))

    run_until_seen(module, batches, {path: partial(add, path) for path in paths})
    hessians = {}
    for path in paths:
        with blamed_on(path):
            hessians[path] = sums[path].hessians()
    return hessians


def num_groups(layer: Layer) -> int:
    """Return the number of groups of inputs that do not meet."""
    return 1 if isinstance(layer, nn.Linear) else layer.groups


def pieces(layer: Layer, x: Tensor) -> Sequence[Tensor]:
    """Return a batch in parts small enough to be unfolded."""
    if isinstance(layer, nn.Linear):
        return (x,)
    repeats = prod(layer.kernel_size) * x[0].numel()
    return torch.split(x, max(1, LARGEST_ROWS // repeats))


@contextmanager
def blamed_on(path: str) -> Iterator[None]:
    """Raise a StageError naming the layer for what the mathematics refuses."""
    try:
        yield
    except ValueError as error:
        raise StageError(f"{error}; keep the layer as it is, or give other samples", module=path) from error


def run_until_seen(
    module: nn.Module, batches: Iterable[Inputs], see: Mapping[str, Callable[[Tensor], None]]
) -> None:
    """Run batches through a module in inference mode; each layer's path in `see` is handed its inputs.

    A run ends behind the last of these layers, as it was in the first batch.
    """
    calls: list[str] = []

    def hooked(path: str) -> Callable[..., None]:
        def hook(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            see[path](next(iter((*args, *kwargs.values()))).detach())
            calls.append(path)
            if len(calls) == expected:
                raise EverythingSeen

        return hook

    expected = -1
    with in_inference(module), ExitStack() as stack:
        for path in see:
            handle = module.get_submodule(path).register_forward_pre_hook(hooked(path), with_kwargs=True)
            stack.callback(handle.remove)
        for inputs in batches:
            raise_if_interrupted()
            calls.clear()
            try:
                module(**inputs)
            except EverythingSeen:
                continue
            expected = len(calls)


@contextmanager
def in_inference(module: nn.Module) -> Iterator[None]:
    """Switch a module to inference without gradients, and every part back."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training


def steps_of(module: nn.Module, inputs: Inputs, paths: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the layers in the order in which they run; those that read one tensor in a row are together.

    A layer that does not run is in none.
    """
    seen: dict[str, Tensor] = {}  # holds the inputs, so that no address is used twice

    def keep(path: str) -> Callable[[Tensor], None]:
        return lambda x: seen.update({path: seen.get(path, x)})

    run_until_seen(module, [inputs], {path: keep(path) for path in paths})
    steps: list[tuple[str, ...]] = []
    for path, x in seen.items():
        if steps and same_tensor(x, seen[steps[-1][0]]):
            steps[-1] += (path,)
        else:
            steps.append((path,))
    return steps


def same_tensor(left: Tensor, right: Tensor) -> bool:
    """Whether two tensors are the same numbers in memory."""
    return left.data_ptr() == right.data_ptr() and left.shape == right.shape
