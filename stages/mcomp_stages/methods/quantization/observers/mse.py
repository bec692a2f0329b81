# C = candidate spans, L = levels
"""The range whose grid is nearest to the values, by the mean squared error of bins' centres."""

from __future__ import annotations

import torch
from torch import Tensor

from mcomp_stages.methods.quantization.observers.config import MSE
from mcomp_stages.methods.quantization.observers.histogram import Bins
from mcomp_stages.methods.quantization.observers.search import HistogramObserver, Loss, sums


def mse(config: MSE) -> HistogramObserver:
    """Return an observer of the range with the smallest squared error."""
    return HistogramObserver(squared_error)


def squared_error(bins: Bins, levels: int) -> Loss:
    """Return the function that gives the squared error of the values, zeros left out, for spans of bins.

    The values that one level stands for are neighbouring bins, so three sums up to each bin give its error.
    """
    centre = bins.first + torch.arange(len(bins.counts), dtype=torch.float64) + 0.5
    moments = [sums(bins.counts * centre**power) for power in (0, 1, 2)]

    def loss(first_C: Tensor, end_C: Tensor) -> Tensor:
        low_C, high_C = (bins.first + ends_C.double() for ends_C in (first_C, end_C))
        step_C = (high_C - low_C) / (levels - 1)
        zero_C = torch.round(-low_C / step_C).clamp(0, levels - 1)
        value_CL = (torch.arange(levels) - zero_C[:, None]) * step_C[:, None]
        upper_CL = value_CL[:, :-1] + step_C[:, None] / 2
        # A bin belongs to the level whose half of a step its centre lies in; the outer levels take the rest.
        edges_CL = torch.ceil(upper_CL - bins.first - 0.5).long().clamp(0, len(bins.counts))
        outer_C1 = torch.zeros_like(edges_CL[:, :1])
        edges_CL = torch.cat([outer_C1, edges_CL, outer_C1 + len(bins.counts)], dim=1)
        count_CL, sum_CL, square_CL = (moment[edges_CL].diff(dim=1) for moment in moments)
        error_C = (square_CL - 2 * value_CL * sum_CL + value_CL**2 * count_CL).sum(1)
        return error_C / moments[0][-1].clamp(min=1)

    return loss
