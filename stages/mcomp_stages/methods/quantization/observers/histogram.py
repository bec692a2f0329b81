"""A histogram of a stream whose range nobody knows, the same in whatever order and batches values come.

The width of the bins is a power of two, and their edges are multiples of it. A value out of range doubles
the width and merges neighbours in pairs, which gives exactly the counts that the wider bins would have had
from the start: floor(floor(x / w) / 2) = floor(x / 2w), and dividing by a power of two is exact. So the
result depends on the values alone, and memory on nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mcomp_stages.methods.quantization.observers.observer import (
    Integers,
    Range,
    ends_of,
    finite_extremes,
    range_of,
)

# The span from the smallest to the largest value, zero included, has more than half as many bins.
CAPACITY = 4096
# Counting in pieces that stay in the processor's cache, with little memory beside the values themselves.
PIECE = 2**16
SMALLEST_EXPONENT = -126  # of a float32 with its full precision


@dataclass(frozen=True)
class Bins:
    """Counts (N,), float64, of neighbouring bins; the first begins at `first` widths.

    Zeros are in none of them: every grid holds them exactly.
    """

    counts: Tensor
    first: int
    width: float
    num_zeros: int

    def edge(self, bin: int) -> float:
        """Return where a bin begins."""
        return (self.first + bin) * self.width


class Histogram:
    """Counts of a stream. Entry CAPACITY + i of `counts` is the bin [i * width, (i + 1) * width)."""

    def __init__(self) -> None:
        self.exponent = SMALLEST_EXPONENT
        self.counts = torch.zeros(2 * CAPACITY, dtype=torch.int64)
        self.num_zeros = 0
        self.seen: Range | None = None

    @property
    def width(self) -> float:
        """The width of a bin."""
        return 2.0**self.exponent

    def update(self, x: Tensor) -> None:
        """Count a batch of values. Raises ValueError if one is not finite."""
        low, high = finite_extremes(x)
        if self.seen is None:
            self.exponent = first_exponent(max(-low.item(), high.item()))
        else:
            low, high = torch.minimum(low, self.seen[0]), torch.maximum(high, self.seen[1])
        self.seen = low, high
        while self.num_bins() > CAPACITY:
            self.double()
        for piece in torch.split(x.detach().float().flatten(), PIECE):
            self.count(piece)

    def double(self) -> None:
        """Double the width: merge each even bin with the odd one above it."""
        merged = self.counts.view(-1, 2).sum(1)
        self.counts = torch.nn.functional.pad(merged, (CAPACITY // 2, CAPACITY // 2))
        self.exponent += 1

    def count(self, values: Tensor) -> None:
        """Count values (N,) that are in range."""
        # int32: torch counts it four times faster than int64.
        bins = torch.floor(values * 2.0**-self.exponent).to(torch.int32).add_(CAPACITY)
        self.counts += torch.bincount(bins, minlength=2 * CAPACITY)
        # Not count_nonzero, which takes 25 times as long where zeros and others are mixed, as behind a ReLU.
        zeros = len(values) - int(values.sign().abs_().sum())
        self.counts[CAPACITY] -= zeros
        self.num_zeros += zeros

    def extremes(self) -> Range:
        """Return the smallest and the largest value. Raises ValueError if nothing was counted."""
        if self.seen is None:
            raise ValueError("no values were observed")
        return self.seen

    def state(self) -> dict[str, Tensor]:
        """Return all that was counted, by name."""
        if self.seen is None:
            return {}
        numbers = torch.tensor([self.exponent, self.num_zeros])
        return {**ends_of(self.seen), "counts": self.counts, "numbers": numbers}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what another one had counted."""
        if state:
            self.seen, self.counts = range_of(state), state["counts"]
            self.exponent, self.num_zeros = state["numbers"].tolist()

    def span(self) -> tuple[int, int]:
        """Return the first bin and the one behind the last, the bin above zero included."""
        low, high = (bound.item() for bound in self.extremes())
        return math.floor(min(low, 0.0) / self.width), math.floor(max(high, 0.0) / self.width) + 1

    def num_bins(self) -> int:
        """Return the number of bins in use."""
        first, end = self.span()
        return end - first

    def bins(self, grid: Integers) -> Bins:
        """Return the bins in use, of the absolute values if `grid` is symmetric."""
        first, end = self.span()
        counts = self.counts[CAPACITY + first : CAPACITY + end].double()
        if grid.symmetric:
            counts = folded(counts[:-first].flip(0), counts[-first:])
            first = 0
        return Bins(counts, first, self.width, self.num_zeros)


def first_exponent(largest: float) -> int:
    """Return an exponent of the width at which `largest` alone needs all bins: no final one is below it."""
    if largest == 0:
        return SMALLEST_EXPONENT
    return max(math.frexp(largest)[1] - 1 - int(math.log2(CAPACITY)), SMALLEST_EXPONENT)


def folded(below: Tensor, above: Tensor) -> Tensor:
    """Return the sums of two rows of counts that begin at zero; the shorter one ends in zeros."""
    longest = max(len(below), len(above))
    below, above = (torch.nn.functional.pad(side, (0, longest - len(side))) for side in (below, above))
    return below + above
