"""Proof of a cut: the sliced model computes what the whole model does with the cut channels set to zero.

The sliced model is run as it is, by its own code; the masked one as the captured graph (`masked.py`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mcomp.errors import StageError
from mcomp.model.fastpath import without_fastpath
from mcomp.model.model import Model
from mcomp_stages.methods.pruning.cut import Cut
from mcomp_stages.methods.pruning.labels import flat
from mcomp_stages.methods.pruning.masked import Masked

TOLERANCE = 1e-5


@dataclass
class Activations:
    """What each module without parts gave back, in the order of execution, and the module that ran last."""

    outputs: dict[str, Tensor] = field(default_factory=dict)
    last: str = ""


def require_equal_to_masked(pruned: Model, model: Model, cut: Cut, example: Mapping[str, Tensor]) -> None:
    """Raise StageError, naming the first layer that differs, unless sliced equals masked on random inputs.

    Equal means to 1e-5 of the largest output. `model` is the model before the cut.
    """
    inputs = random_inputs(example)
    masked, sliced = Masked(model.module, cut), copy.deepcopy(pruned.module).eval()
    with torch.no_grad(), without_fastpath():
        expected = tensors(masked.outputs(inputs))
        actual = tensors(run_sliced(sliced, inputs))
        if all(equal(*pair) for pair in zip(expected, actual, strict=True)):
            return
        layer = first_difference(masked.recorded(inputs), recorded(sliced, inputs), cut)
    raise StageError("the cut model does not compute what the masked model computes", module=layer)


def random_inputs(example: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return standard normal numbers in the place of real inputs; integers (tokens) stay as they are."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(value.shape, generator=generator, dtype=value.dtype).to(value.device)
        if value.is_floating_point()
        else value
        for name, value in example.items()
    }


def run_sliced(module: nn.Module, inputs: Mapping[str, Tensor]) -> Any:
    """Run a cut model. Raises StageError with the module in which the shapes do not fit."""
    with recording(module) as activations:
        try:
            return module(**inputs)
        except Exception as error:  # whatever the model's own code raises
            what = f"the cut model does not run, its code may hold a fixed size: {error}"
            raise StageError(what, module=activations.last) from error


def recorded(module: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the output of every module without parts."""
    with recording(module) as activations:
        module(**inputs)
    return activations.outputs


@contextmanager
def recording(module: nn.Module) -> Iterator[Activations]:
    """Keep the outputs of a module's parts while it runs."""
    activations = Activations()

    def before(path: str) -> Callable[..., None]:
        return lambda part, arguments: setattr(activations, "last", path)

    def after(path: str) -> Callable[..., None]:
        def keep(part: nn.Module, arguments: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                activations.outputs[path] = output.clone()  # the next operation may work in place

        return keep

    leaves = [(path, part) for path, part in module.named_modules() if not list(part.children())]
    handles = [part.register_forward_pre_hook(before(path)) for path, part in leaves]
    handles += [part.register_forward_hook(after(path)) for path, part in leaves]
    try:
        yield activations
    finally:
        for handle in handles:
            handle.remove()


def first_difference(masked: Mapping[str, Tensor], sliced: Mapping[str, Tensor], cut: Cut) -> str:
    """Return the first module whose output differs in the channels that stay; "" if it lies in no module."""
    for path, output in sliced.items():
        if path not in masked:
            continue
        expected = kept_channels(masked[path], output, path, cut)
        if expected is not None and not equal(expected, output):
            return path
    return ""


def kept_channels(full: Tensor, part: Tensor, path: str, cut: Cut) -> Tensor | None:
    """Return the channels of a masked output that the module keeps, or None if that is not known."""
    kept = [keep for (name, _), keep in cut.kept_indices.items() if name.rpartition(".")[0] == path]
    for axis in range(full.ndim):
        if full.shape[axis] != part.shape[axis]:
            keep = next((keep for keep in kept if len(keep) == part.shape[axis]), None)
            if keep is None:
                return None
            full = full.index_select(axis, torch.tensor(keep, device=full.device))
    return full


def equal(expected: Tensor, actual: Tensor) -> bool:
    """Return whether two outputs agree to the tolerance, relative to the largest."""
    if expected.shape != actual.shape:
        return False
    return bool((expected - actual).abs().max() <= TOLERANCE * expected.abs().max())


def tensors(output: Any) -> list[Tensor]:
    """Return the floating-point tensors of a model's output, whatever holds them."""
    return [leaf for leaf in flat(output) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
