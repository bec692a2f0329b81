# C = candidate spans, L = levels
"""The range whose grid keeps most of the values' distribution, by Kullback-Leibler divergence.

Source: Migacz 2017, "8-bit Inference with TensorRT", GTC 2017, slides 24 to 43: 2048 bins to 128 levels.
Differs: as many levels as the grid has (128 for the absolute values of a symmetric INT8 grid, 256 for an
affine one), so unsigned and two-sided activations are looked at as they will be stored; a two-sided range is
cut at each end in turn. Zeros are not counted, because no grid moves them: a ReLU's would outweigh
everything. Values beyond the range pile up at its end, as there; if that bin is empty, the quantized
distribution is taken to have half a value there, where theirs would be infinitely far away.
A value that comes again and again (a constant background behind a layer, one for each channel) is no part of
a distribution's shape, as zero is none: its bin counts no more than twice what its neighbours do, and only as
many values are cut off as two levels have room for. Else such values choose the range alone: MNIST's
background cut off 88 % of the range behind a first layer.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from mcomp_stages.methods.quantization.observers.config import KL
from mcomp_stages.methods.quantization.observers.histogram import Bins
from mcomp_stages.methods.quantization.observers.search import HistogramObserver, Loss, sums

HALF = 0.5
POINT_MASS = 2.0  # times the mean of the filled bins around it
MOST_CUT = 2.0  # levels, if all values were evenly shared out among them


def kl(config: KL) -> HistogramObserver:
    """Return an observer of the range that keeps most of the distribution."""
    return HistogramObserver(bounded_divergence)


def bounded_divergence(bins: Bins, levels: int) -> Loss:
    """Return the divergence without point masses, infinite for spans that cut off too many values."""
    mass = sums(bins.counts)
    least_inside = (1 - MOST_CUT / levels) * mass[-1]
    loss = divergence(without_point_masses(bins, levels), levels)

    def bounded(first_C: Tensor, end_C: Tensor) -> Tensor:
        inside_C = mass[end_C] - mass[first_C]
        whole_C = (first_C == 0) & (end_C == len(bins.counts))
        allowed_C = (inside_C >= least_inside) | whole_C
        losses_C = torch.full_like(inside_C, torch.inf)
        losses_C[allowed_C] = loss(first_C[allowed_C], end_C[allowed_C])
        return losses_C

    return bounded


def without_point_masses(bins: Bins, levels: int) -> Bins:
    """Return bins of which none holds much more than the filled ones around it, a level's width each way.

    A bin with nothing around it keeps what it has.
    """
    reach = max(len(bins.counts) // levels, 1)
    around = torch.ones(1, 1, 2 * reach + 1, dtype=bins.counts.dtype)
    around[..., reach] = 0
    others, filled = (
        functional.conv1d(each.view(1, 1, -1), around, padding=reach).flatten()
        for each in (bins.counts, (bins.counts > 0).to(bins.counts.dtype))
    )
    most = torch.where(filled > 0, POINT_MASS * others / filled.clamp(min=1), bins.counts)
    return replace(bins, counts=torch.minimum(bins.counts, most))


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
        edges_CL = level_edges(first_C, end_C, levels)
        mass_CL, filled_CL = (sums_to[edges_CL].diff(dim=1) for sums_to in (mass, filled))
        level_CL = log_density(mass_CL, filled_CL)
        quantized_C = (mass_CL * level_CL).sum(1)
        for (bin_C, beyond_C), log_C in zip(ends_C, (level_CL[:, 0], level_CL[:, -1]), strict=True):
            expected_C = expected_C + xlogx(counts[bin_C] + beyond_C) - xlogx(counts[bin_C])
            at_end_C = torch.where(counts[bin_C] > 0, log_C, math.log(HALF))
            quantized_C = quantized_C + beyond_C * at_end_C
        inside_C = mass[end_C] - mass[first_C]
        divergence_C = (expected_C - quantized_C) / total + (inside_C / total).log()
        return torch.where(inside_C > 0, divergence_C, torch.inf)

    return loss


def level_edges(first_C: Tensor, end_C: Tensor, levels: int) -> Tensor:
    """Return the first bin of each level (C, L + 1), int64, and the one behind the last."""
    # In doubles, which is four times faster: no quotient of such small integers rounds up to the next one.
    inside_CL = (end_C - first_C)[:, None].double() * torch.arange(levels + 1) / levels
    return first_C[:, None] + inside_CL.long()


def xlogx(values: Tensor) -> Tensor:
    """Return x log x, 0 at 0."""
    return torch.xlogy(values, values)


def log_density(mass: Tensor, filled: Tensor) -> Tensor:
    """Return the log of what each bin of a level gets, if its mass is spread over its filled bins."""
    return (mass / filled.clamp(min=1)).clamp(min=1e-300).log()
