"""Which of a histogram's bins a grid should span: the ends that lose least, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mcomp_stages.methods.quantization.observers.histogram import Bins, Histogram
from mcomp_stages.methods.quantization.observers.observer import Integers, Range

Loss = Callable[[Tensor, Tensor], Tensor]
"""What is lost by spans of bins, (C,) each: from `first` to before `end`."""

# An end is found to 0.4 % of the span; finer steps follow the noise of the counts.
NUM_CANDIDATES = 256
MOST_ROUNDS = 4


class HistogramObserver:
    """Counts values, and chooses the span of bins that loses least by `loss_of(bins, levels)`."""

    def __init__(self, loss_of: Callable[[Bins, int], Loss]) -> None:
        self.loss_of = loss_of
        self.histogram = Histogram()

    def update(self, x: Tensor) -> None:
        self.histogram.update(x)

    def range(self, grid: Integers) -> Range:
        bins = self.histogram.bins(grid)
        levels = (grid.levels + 1) // 2 if grid.symmetric else grid.levels  # zero and above
        first, end = best_span(self.loss_of(bins, levels), len(bins.counts), -bins.first, levels)
        return cut(self.histogram, bins, first, end, grid)

    def state(self) -> dict[str, Tensor]:
        return self.histogram.state()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.histogram.restore(state)


def best_span(loss: Loss, num_bins: int, zero: int, shortest: int) -> tuple[int, int]:
    """Return the span that loses least and holds bin edge `zero`: the end, then the first bin, and again.

    A span shorter than `shortest` bins is not looked at. Of equal spans the widest wins.
    """
    first, end = 0, num_bins
    for _ in range(MOST_ROUNDS):
        before = first
        ends = candidates(num_bins, min(num_bins, max(zero, first + shortest)))
        end = least(loss(torch.full_like(ends, first), ends), ends)
        firsts = candidates(0, max(0, min(zero, end - shortest)))
        first = least(loss(firsts, torch.full_like(firsts, end)), firsts)
        if first == before:  # the ends were looked at from there
            break
    return first, end


def candidates(widest: int, narrowest: int) -> Tensor:
    """Return up to 256 ends, int64, evenly from the widest to the narrowest, the widest first."""
    room = abs(widest - narrowest)
    steps = torch.arange(0, room + 1, max(room // NUM_CANDIDATES, 1))
    return widest + steps if narrowest > widest else widest - steps


def sums(values: Tensor) -> Tensor:
    """Return the sums of the first 0, 1, 2, ... values."""
    return torch.cat([values.new_zeros(1), values.cumsum(0)])


def least(losses: Tensor, ends: Tensor) -> int:
    """Return the first of the ends with the smallest loss."""
    return int(ends[losses.argmin()])


def cut(histogram: Histogram, bins: Bins, first: int, end: int, grid: Integers) -> Range:
    """Return the range of a span of bins; where nothing is cut off, its end is the extreme value itself."""
    low, high = histogram.extremes()
    upper = torch.tensor(bins.edge(end), dtype=torch.float32)
    if grid.symmetric:
        limit = torch.minimum(torch.maximum(low.abs(), high.abs()), upper)
        return -limit, limit
    lower = torch.tensor(bins.edge(first), dtype=torch.float32)
    return torch.maximum(low, lower), torch.minimum(high, upper)
