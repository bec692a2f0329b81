"""Inputs to look at a model with, and which of their sizes differ from batch to batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim

from mcomp.data.contract import Varying

BATCH = "batch"


@dataclass(frozen=True)
class Example(Mapping[str, Tensor]):
    """The inputs of a few samples by name. Their first axis is the batch; `varying` has the others that vary.

    `free_batch`: whether the batch varies as well.

    To most readers it is a plain mapping of tensors; only what captures a model asks for more.
    """

    inputs: Mapping[str, Tensor]
    varying: Varying = field(default_factory=dict)
    free_batch: bool = True

    def __getitem__(self, name: str) -> Tensor:
        return self.inputs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.inputs)

    def __len__(self) -> int:
        return len(self.inputs)

    def to(self, device: torch.device | str) -> Example:
        """Return the same on a device."""
        inputs = {name: tensor.to(device) for name, tensor in self.inputs.items()}
        return Example(inputs, self.varying, self.free_batch)


def dynamic_shapes(example: Mapping[str, Tensor]) -> dict[str, dict[int, Any]]:
    """Return what torch.export is told of the inputs: the name of every size that is not fixed, by axis.

    Of a plain mapping only the batch varies. Sizes of the same name are equal.
    """
    varying = example.varying if isinstance(example, Example) else {}
    sizes = {size for axes in varying.values() for size in axes.values()}
    dims = {size: Dim(size.name, max=size.largest) for size in sizes}
    free_batch = not isinstance(example, Example) or example.free_batch
    first = {0: Dim(BATCH)} if free_batch else {}
    return {
        name: {**first, **{axis: dims[size] for axis, size in varying.get(name, {}).items()}}
        for name in example
    }
