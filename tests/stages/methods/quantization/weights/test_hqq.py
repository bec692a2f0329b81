"""Half-quadratic grids: equal to the paper's steps on numbers, and better than the extremes on outliers."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mcomp_stages.methods.quantization.weights.grid import Width, extremes, grouped, storable
from mcomp_stages.methods.quantization.weights.hqq import half_quadratic
from mcomp_stages.methods.quantization.weights.round_to_nearest import round_to_nearest
from tests.stages.methods.quantization.weights.samples import random_weight


def slow_scale(group: list[float], width: Width) -> float:
    """Take the paper's steps for one group, number by number."""
    start = extremes(torch.tensor(group).reshape(1, 1, -1), width)
    scale, zero, penalty = start.scale.item(), start.zero.item(), 10.0
    for _ in range(20):
        products = squares = 0.0
        for value in group:
            step = min(width.largest, max(0, round(value / scale + zero))) - zero
            error = value - step * scale
            kept = max(0.0, abs(error) - abs(error) ** -0.3 / penalty) if error else 0.0
            target = value - (kept if error > 0 else -kept)
            products += target * step
            squares += step * step
        scale = products / squares if products > 0 else scale
        penalty *= 1.01
    return scale


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10**6), bits=st.integers(2, 8), symmetric=st.booleans())
def test_the_scale_is_that_of_one_number_after_the_other(seed: int, bits: int, symmetric: bool) -> None:
    width, weight = Width(bits, symmetric=symmetric), random_weight(1, 12, seed).double()
    expected = storable(torch.tensor(slow_scale(weight[0].tolist(), width)))
    scale = half_quadratic(weight.unsqueeze(1), width).scale
    torch.testing.assert_close(scale.item(), expected.item(), rtol=2**-9, atol=0)


def power_sum(error: Tensor) -> float:
    return error.abs().pow(0.7).sum().item()


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), bits=st.sampled_from([2, 3, 4]))
def test_with_outliers_the_power_of_the_error_is_smaller_than_between_the_extremes(
    seed: int, bits: int
) -> None:
    weight, width = 0.1 * random_weight(16, 64, seed), Width(bits, 32)
    weight[:, ::32] *= 6
    errors = [
        power_sum(round_to_nearest(weight, width, fit).numbers() - weight)
        for fit in (half_quadratic, extremes)
    ]
    assert errors[0] < errors[1]


def test_a_group_of_zeros_keeps_a_grid() -> None:
    grid = half_quadratic(grouped(torch.zeros(2, 8), Width(4, 4)), Width(4, 4))
    assert grid.scale.isfinite().all()
    assert (grid.scale > 0).all()


def test_what_lies_on_a_grid_is_kept() -> None:
    weight = torch.arange(16.0).reshape(1, 16) - 5
    assert torch.equal(round_to_nearest(weight, Width(4), half_quadratic).numbers(), weight)
