"""Splits held in memory, and how samples are shared out among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor

from mcomp.data.contract import Batch, Split, SplitName


@dataclass(frozen=True)
class TensorSplit:
    """A split whose samples are rows of tensors; `indices` (N,) are their places in the whole data set."""

    indices: Tensor
    inputs: Mapping[str, Tensor]
    target: Tensor
    augmented: bool = False

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, positions: Tensor, draw: int | None = None) -> Batch:
        inputs = {name: tensor[positions] for name, tensor in self.inputs.items()}
        return Batch(self.indices[positions], inputs, self.target[positions])


@dataclass(frozen=True)
class Splits:
    """Loaded data: one split for each name."""

    by_name: Mapping[SplitName, Split]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def split(self, name: SplitName) -> Split:
        return self.by_name[name]


def stratified_parts(labels: Tensor, sizes: Mapping[str, int], generator: Generator) -> dict[str, Tensor]:
    """Share the samples out among parts of exactly these sizes, each with the classes in their proportions.

    `labels` (N,) are integers. Returns sorted positions by part, and under "rest" those that are left.
    Shuffled classes are laid side by side at even distances, so that every stretch of the line has the
    proportions of the whole, to one sample a class. Raises ValueError if the sizes need more than N samples.
    """
    if sum(sizes.values()) > len(labels):
        raise ValueError(f"{len(labels)} samples cannot fill parts of {sum(sizes.values())}")
    place = torch.empty(len(labels), dtype=torch.float64)
    for label in torch.unique(labels):
        members = (labels == label).nonzero().flatten()
        order = torch.randperm(len(members), generator=generator)
        place[members[order]] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    line = place.argsort(stable=True)
    counts = [*sizes.values(), len(labels) - sum(sizes.values())]
    parts = torch.split(line, counts)
    return {name: part.sort().values for name, part in zip([*sizes, "rest"], parts, strict=True)}
