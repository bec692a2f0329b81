# C = candidate spans, L = levels
"""The range whose grid keeps most of the values' distribution, by Kullback-Leibler divergence.

Source: Migacz 2017, "8-bit Inference with TensorRT", GTC 2017, slides 24 to 43: 2048 bins to 128 levels.
Differs: as many levels as the grid has (128 for the absolute values of a symmetric INT8 grid, 256 for an
affine one), so unsigned and two-sided activations are looked at as they will be stored; a two-sided range is
cut at each end in turn. Zeros are not counted, because no grid moves them: a ReLU's would outweigh
everything. Values beyond the range pile up at its end, as there; if that bin is empty, the quantized
distribution is taken to have half a value there, where theirs would be infinitely far away.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mcomp_stages.methods.quantization.observers.config import KL
from mcomp_stages.methods.quantization.observers.histogram import Bins
from mcomp_stages.methods.quantization.observers.search import HistogramObserver, Loss, sums

HALF = 0.5


def kl(config: KL) -> HistogramObserver:
    """Return an observer of the range that keeps most of the distribution."""
    return HistogramObserver(divergence)


def divergence(bins: Bins, levels: int) -> Loss:
    """Return the function that gives the divergence of the quantized distribution for spans of bins.

    With sums up to each bin, a span costs as many steps as there are levels, not as there are bins.
    """
    counts = bins.counts
    mass, filled, entropy = (sums(each) for each in (counts, (counts > 0).double(), xlogx(counts)))
    total = mass[-1]

    def loss(first_C: Tensor, end_C: Tensor) -> Tensor:
        below_C, above_C = mass[first_C], total - mass[end_C]
        ends_C = [(first_C, below_C), (end_C - 1, above_C)]
        expected_C = entropy[end_C] - entropy[first_C]
        edges_CL = first_C[:, None] + ((end_C - first_C)[:, None] * torch.arange(levels + 1)) // levels
        level_CL = log_density(mass[edges_CL].diff(dim=1), filled[edges_CL].diff(dim=1))
        quantized_C = (mass[edges_CL].diff(dim=1) * level_CL).sum(1)
        for (bin_C, beyond_C), log_C in zip(ends_C, (level_CL[:, 0], level_CL[:, -1]), strict=True):
            expected_C = expected_C + xlogx(counts[bin_C] + beyond_C) - xlogx(counts[bin_C])
            at_end_C = torch.where(counts[bin_C] > 0, log_C, math.log(HALF))
            quantized_C = quantized_C + beyond_C * at_end_C
        inside_C = mass[end_C] - mass[first_C]
        divergence_C = (expected_C - quantized_C) / total + (inside_C / total).log()
        return torch.where(inside_C > 0, divergence_C, torch.inf)

    return loss


def xlogx(values: Tensor) -> Tensor:
    """Return x log x, 0 at 0."""
    return torch.xlogy(values, values)


def log_density(mass: Tensor, filled: Tensor) -> Tensor:
    """Return the log of what each bin of a level gets, if its mass is spread over its filled bins."""
    return (mass / filled.clamp(min=1)).clamp(min=1e-300).log()
