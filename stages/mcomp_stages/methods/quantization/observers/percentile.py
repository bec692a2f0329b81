"""All values but a few of the largest and a few of the smallest."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mcomp_stages.methods.quantization.observers.config import Percentile
from mcomp_stages.methods.quantization.observers.histogram import Bins, Histogram
from mcomp_stages.methods.quantization.observers.observer import Integers, Range
from mcomp_stages.methods.quantization.observers.search import cut


class PercentileObserver:
    """Counts values; at most `1 - share` of all are above the range, and at most as many below it."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.histogram = Histogram()

    def update(self, x: Tensor) -> None:
        self.histogram.update(x)

    def range(self, grid: Integers) -> Range:
        bins = self.histogram.bins(grid)
        return cut(self.histogram, bins, *middle(bins, 1 - self.share), grid)

    def state(self) -> dict[str, Tensor]:
        return self.histogram.state()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.histogram.restore(state)


def middle(bins: Bins, tail: float) -> tuple[int, int]:
    """Return the shortest span of bins around zero with at most the share `tail` of all values on each side.

    If that is none, because so many values are zero, it is the span of all: something must be left.
    """
    zero = -bins.first
    most = tail * (float(bins.counts.sum()) + bins.num_zeros)
    above = bins.counts[zero:].flip(0).cumsum(0)
    below = bins.counts[:zero].cumsum(0)
    first, end = num_within(below, most), len(bins.counts) - num_within(above, most)
    return (first, end) if first < end else (0, len(bins.counts))


def num_within(sums: Tensor, most: float) -> int:
    """Return how many of these growing sums are no larger than `most`."""
    return int(torch.count_nonzero(sums <= most))


def percentile(config: Percentile) -> PercentileObserver:
    """Return an observer of the given percentile on each side."""
    return PercentileObserver(config.percent / 100)
