"""A part of loaded data, the same part in every run, so that a recipe can be tried out in little time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from mcomp.data.contract import Batch, Data, DataConfig, Split, SplitName

SMALLEST = 2  # batch norm cannot train on one sample, and a capture takes a batch of one for a constant
MEASURED_ON = ("validation", "test")


@dataclass(frozen=True)
class ShortenedSplit:
    """The samples of `split` at `positions` (N,); they keep their indices."""

    split: Split
    positions: Tensor

    @property
    def augmented(self) -> bool:
        return self.split.augmented

    def __len__(self) -> int:
        return len(self.positions)

    def batch(self, positions: Tensor, draw: int | None = None) -> Batch:
        return self.split.batch(self.positions[positions], draw)


@dataclass(frozen=True)
class ShortenedData:
    """The same share of every split: `share` of it, but at least so many of its `samples`, by its name."""

    data: Data
    share: float
    samples: Mapping[SplitName, int]

    @property
    def facts(self) -> Mapping[str, Any]:
        return self.data.facts

    def split(self, name: SplitName) -> ShortenedSplit:
        split = self.data.split(name)
        return part_of(split, max(math.ceil(self.share * len(split)), self.samples[name]))


def part_of(split: Split, size: int) -> ShortenedSplit:
    """Return `size` samples of a split, or all if it has fewer, the same in every run."""
    # Drawn, not counted off: files often stand in the order of their classes. Always the same draw.
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
    return ShortenedSplit(split, order[:size].sort().values)


def load_data(config: DataConfig) -> Data:
    """Load the splits, or the part of them that `config.shortened` asks for.

    Raises RecipeError if the files are missing or are not what they should be.
    """
    data = config.load()
    if config.shortened is None:
        return data
    batches = {name: 1 if name in MEASURED_ON else config.shortened.batches for name in get_args(SplitName)}
    samples = {name: max(number * config.batch_size, SMALLEST) for name, number in batches.items()}
    return ShortenedData(data, config.shortened.share, samples)
