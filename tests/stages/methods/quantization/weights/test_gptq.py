"""GPTQ: equal to one row after the other, round-to-nearest where inputs are independent, better elsewhere."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mcomp_stages.methods.layer_hessian import output_error
from mcomp_stages.methods.quantization.weights.gptq import gptq
from mcomp_stages.methods.quantization.weights.grid import (
    FITS,
    Grid,
    IntegerWeight,
    Width,
    extremes,
    grouped,
    least_squares,
    on_columns,
)
from mcomp_stages.methods.quantization.weights.round_to_nearest import round_to_nearest
from tests.stages.methods.quantization.weights.samples import (
    correlated_hessian,
    random_weight,
    require_same_integers,
)

WIDTHS = [Width(4, 8), Width(3, 8, symmetric=True), Width(2), Width(4, 5)]


def slow_gptq(weight_OK: Tensor, hessian_KK: Tensor, width: Width, order: list[int]) -> Tensor:
    """Round one row after the other on the grids of the weight as it came, inverting anew at each column."""
    grid = extremes(grouped(weight_OK, width), width)
    columns = weight_OK.shape[1]
    scale_OK, zero_OK = on_columns(grid, width.columns(columns), columns)
    damped = hessian_KK + 0.01 * hessian_KK.diagonal().mean() * torch.eye(columns)
    result = weight_OK.double().clone()
    for row, scale_K, zero_K in zip(result, scale_OK.double(), zero_OK.double(), strict=True):
        for place, column in enumerate(order):
            left = order[place:]
            inverse = torch.linalg.inv(damped[left][:, left])
            code = torch.round(row[column] / scale_K[column] + zero_K[column]).clamp(0, width.largest)
            rounded = (code - zero_K[column]) * scale_K[column]
            row[left] -= (row[column] - rounded) / inverse[0, 0] * inverse[0]
            row[column] = rounded
    return result


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), width=st.sampled_from(WIDTHS))
def test_by_activity_it_equals_one_row_after_the_other(seed: int, width: Width) -> None:
    weight, hessian = random_weight(4, 16, seed), correlated_hessian(16, seed)
    order = hessian.diagonal().argsort(descending=True).tolist()
    swept = gptq(weight.double(), hessian, width, extremes).numbers()
    torch.testing.assert_close(swept.double(), slow_gptq(weight, hessian, width, order), rtol=0, atol=1e-4)


def test_in_memory_order_and_one_grid_for_the_row_it_equals_one_row_after_the_other() -> None:
    weight, hessian = random_weight(4, 16, seed=1), correlated_hessian(16, seed=2)
    swept = gptq(weight.double(), hessian, Width(3), extremes, by_activity=False).numbers()
    expected = slow_gptq(weight, hessian, Width(3), list(range(16)))
    torch.testing.assert_close(swept.double(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("by_activity", [True, False])
@pytest.mark.parametrize("width", WIDTHS)
def test_independent_inputs_leave_nothing_to_make_good(width: Width, by_activity: bool) -> None:
    weight, hessian = random_weight(5, 16, seed=3), torch.diag(torch.rand(16, dtype=torch.float64) + 0.5)
    swept = gptq(weight, hessian, width, extremes, by_activity=by_activity)
    require_same_integers(swept, round_to_nearest(weight, width, extremes))


@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 10**6),
    width=st.sampled_from([Width(4, 16), Width(3, 16), Width(4, 16, symmetric=True)]),
    by_activity=st.booleans(),
    name=st.sampled_from(list(FITS)),
)
def test_outputs_are_closer_than_rounded_to_nearest(
    seed: int, width: Width, by_activity: bool, name: str
) -> None:
    weight, hessian = random_weight(32, 64, seed), correlated_hessian(64, seed)
    swept = gptq(weight, hessian, width, FITS[name], by_activity=by_activity)
    nearest = round_to_nearest(weight, width, FITS[name])
    errors = [output_error(each.numbers() - weight, hessian) for each in (swept, nearest)]
    assert errors[0] < 0.7 * errors[1]


def test_late_grids_are_fitted_to_corrected_values() -> None:
    weight, hessian, width = random_weight(4, 16, seed=4), correlated_hessian(16, seed=5), Width(3, 8)
    late = gptq(weight, hessian, width, least_squares, by_activity=False)
    early = least_squares(grouped(weight, width), width)
    assert torch.equal(late.grid.scale[:, 0], early.scale[:, 0])  # nothing was corrected before the first
    assert not torch.equal(late.grid.scale[:, 1], early.scale[:, 1])


def test_groups_longer_than_a_block_of_the_sweep_are_whole() -> None:
    weight, hessian = random_weight(2, 300, seed=6), correlated_hessian(300, seed=7)
    swept = gptq(weight, hessian, Width(4, 256), extremes, by_activity=False)
    assert swept.grid.scale.shape == (2, 2)
    assert (swept.codes <= 15).all()


def test_integers_lie_on_their_grid() -> None:
    swept = gptq(random_weight(3, 16, seed=8), correlated_hessian(16, seed=9), Width(2, 8), extremes)
    again = IntegerWeight(swept.codes, Grid(swept.grid.scale, swept.grid.zero), 8)
    assert swept.codes.max() <= 3
    assert torch.equal(again.numbers(), swept.numbers())


def test_a_hessian_that_is_singular_is_refused_without_damping() -> None:
    hessian = torch.ones(4, 4, dtype=torch.float64)
    with pytest.raises(ValueError, match="damping of 0"):
        gptq(random_weight(2, 4, seed=0), hessian, Width(4), extremes, damping=0)
