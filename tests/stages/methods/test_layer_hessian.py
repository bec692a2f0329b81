"""The layer Hessian and the sweep: equal to taking every row alone, one column after the other."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mcomp_stages.methods import layer_hessian
from mcomp_stages.methods.layer_hessian import HessianSum, inverse_factor, output_error, sweep


def hessian_of(x_NK: Tensor) -> Tensor:
    total = HessianSum(1, x_NK.shape[1])
    total.add(x_NK.unsqueeze(0))
    return total.hessians()[0]


def halves(column: int, rest_OR: Tensor) -> Tensor:
    return torch.round(rest_OR[:, 0] * 2) / 2


def slow_sweep(weight_OK: Tensor, hessian_KK: Tensor) -> Tensor:
    """Optimal brain surgery, row by row: after each column the inverse is formed anew for those left."""
    result = weight_OK.clone()
    for row in result:
        for column in range(len(row)):
            inverse = torch.linalg.inv(hessian_KK[column:, column:])
            rounded = torch.round(row[column] * 2) / 2
            row[column:] -= (row[column] - rounded) / inverse[0, 0] * inverse[0]
            row[column] = rounded
    return result


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(deadline=None, max_examples=30)
@given(
    rows=st.integers(1, 5), columns=st.integers(1, 12), block=st.integers(1, 13), seed=st.integers(0, 10**6)
)
def test_the_sweep_equals_one_row_after_the_other(rows: int, columns: int, block: int, seed: int) -> None:
    x, weight = random(3 * columns, columns, seed=seed), random(rows, columns, seed=seed + 1)
    hessian = hessian_of(x)
    damped = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(columns)
    swept = sweep(weight, inverse_factor(hessian), halves, block)
    torch.testing.assert_close(swept, slow_sweep(weight, damped), rtol=0, atol=1e-6)


def test_the_factor_is_that_of_the_damped_inverse() -> None:
    hessian = hessian_of(random(30, 8, seed=0))
    factor = inverse_factor(hessian, damping=0.1)
    damped = hessian + 0.1 * hessian.diagonal().mean() * torch.eye(8)
    torch.testing.assert_close(factor.mT @ factor @ damped, torch.eye(8, dtype=torch.float64))
    assert torch.equal(factor, factor.triu())


@pytest.mark.parametrize("side", [1, 3, 4, 7, 10])
def test_parts_of_a_large_one_give_the_same(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = random(50, 10, seed=12)
    hessian, factor = hessian_of(x), inverse_factor(hessian_of(x))
    monkeypatch.setattr(layer_hessian, "LARGEST_SIDE", side)
    monkeypatch.setattr(layer_hessian, "LARGEST_PRODUCT", 10 * 10 * side)
    torch.testing.assert_close(hessian_of(x), hessian)
    in_parts = inverse_factor(hessian)
    torch.testing.assert_close(in_parts, factor)
    assert torch.equal(in_parts, in_parts.triu())
    with pytest.raises(ValueError, match="not positive"):
        inverse_factor(hessian - 2 * hessian[9, 9] * torch.eye(10)[9] * torch.eye(10))


def test_batches_add_up_to_all_samples_at_once() -> None:
    x = random(40, 6, seed=1)
    total = HessianSum(1, 6)
    for part in x.split(7):
        total.add(part.unsqueeze(0))
    torch.testing.assert_close(total.hessians()[0], 2 / 40 * x.mT @ x)


def test_the_error_is_the_mean_square_of_the_outputs_change() -> None:
    x, change = random(50, 6, seed=2), random(4, 6, seed=3)
    expected = (x @ change.mT).square().sum(1).mean().item()
    assert output_error(change, hessian_of(x)) == pytest.approx(expected)


def test_swept_outputs_are_closer_than_rounded_ones() -> None:
    x = random(200, 6, seed=4) @ random(6, 24, seed=5) + 0.1 * random(200, 24, seed=6)  # correlated
    weight, hessian = random(16, 24, seed=7), hessian_of(x)
    swept = sweep(weight, inverse_factor(hessian), halves)
    rounded = torch.round(weight * 2) / 2
    assert output_error(swept - weight, hessian) < 0.5 * output_error(rounded - weight, hessian)


def test_what_nothing_changes_stays_as_it_is() -> None:
    weight = random(3, 7, seed=7)
    kept = sweep(
        weight, inverse_factor(hessian_of(random(20, 7, seed=8))), lambda _, rest: rest[:, 0].clone()
    )
    assert torch.equal(kept, weight)


def test_a_dead_column_is_rounded_alone() -> None:
    x = random(30, 5, seed=9)
    x[:, 2] = 0
    weight = random(4, 5, seed=10)
    swept = sweep(weight, inverse_factor(hessian_of(x)), halves)
    assert torch.equal(swept[:, 2], torch.round(weight[:, 2] * 2) / 2)


def test_fewer_samples_than_columns_need_damping() -> None:
    hessian = hessian_of(random(3, 8, seed=11))
    assert inverse_factor(hessian).isfinite().all()
    with pytest.raises(ValueError, match=r"singular or not positive with a damping of 0; raise `damping`"):
        inverse_factor(hessian, damping=0.0)


def test_a_hessian_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ValueError, match="not positive"):
        inverse_factor(torch.tensor([[1.0, 5.0], [5.0, 1.0]], dtype=torch.float64))


def test_a_hessian_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        inverse_factor(torch.tensor([[1.0, torch.inf], [torch.inf, 1.0]], dtype=torch.float64))


@pytest.mark.parametrize(
    ("x_NK", "message"),
    [
        (torch.zeros(5, 3), "zero on all calibration samples"),
        (torch.full((5, 3), 0.1), "the same on all calibration samples"),
        (torch.full((5, 3), torch.nan), "not finite"),
        (torch.full((5, 3), torch.inf), "not finite"),
        (torch.zeros(0, 3), "never ran"),
    ],
)
def test_inputs_that_say_nothing_are_refused(x_NK: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hessian_of(x_NK)
