"""Sizes of inputs that a file takes only so. The field is free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from mcomp.errors import StageError, named
from mcomp.recipe.nearest import one_of

if TYPE_CHECKING:
    from torch import Tensor

    from mcomp.model.example import Example

BATCH = "batch"
OPSET = "version of the ONNX operators: integers of 4 and 16 bits, and scales in groups, came with 21"

FixedSizes = Annotated[
    dict[str, Annotated[int, Field(ge=1)]],
    Field(description="sizes that the file takes only so, as {batch: 1, sequence: 128}; others are free"),
]


def with_fixed(example: Example, fixed: Mapping[str, int]) -> Example:
    """Return an example whose inputs have the fixed sizes, and in which only the others vary.

    Raises StageError for a name that no size has, and for more than there may be.
    """
    from mcomp.model.example import Example

    largest = {size.name: size.largest for axes in example.varying.values() for size in axes.values()}
    for name, size in fixed.items():
        if name != BATCH and name not in largest:
            known = one_of([BATCH, *largest])
            raise StageError(f"fixed: no size of the inputs is called '{named(name)}'; it must be {known}")
        if size > largest.get(name, size):
            raise StageError(f"fixed: {name} is at most {largest[name]} in the data, not {size}")
    inputs = dict(example.inputs)
    for name, axes in example.varying.items():
        for axis, varying in axes.items():
            inputs[name] = resized(inputs[name], axis, fixed.get(varying.name))
    if BATCH in fixed:
        inputs = {name: resized(value, 0, fixed[BATCH]) for name, value in inputs.items()}
    left = {
        name: {axis: size for axis, size in axes.items() if size.name not in fixed}
        for name, axes in example.varying.items()
    }
    return Example(inputs, left, BATCH not in fixed)


def resized(value: Tensor, axis: int, size: int | None) -> Tensor:
    """Return a tensor with so many places along an axis, those that there are in turn."""
    import torch

    if size is None or size == value.shape[axis]:
        return value
    return value.index_select(axis, torch.arange(size) % value.shape[axis])


def free_sizes(example: Example) -> list[str]:
    """Return the names of the sizes that vary."""
    names = {size.name for axes in example.varying.values() for size in axes.values()}
    return [*([BATCH] if example.free_batch else []), *sorted(names)]
