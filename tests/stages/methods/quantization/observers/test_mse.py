"""The squared error of a grid, and the range it chooses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mcomp_stages.methods.quantization.config import Activations
from mcomp_stages.methods.quantization.grid import activation_grid
from mcomp_stages.methods.quantization.observers.config import MSE, MinMax
from mcomp_stages.methods.quantization.observers.histogram import Bins
from mcomp_stages.methods.quantization.observers.mse import squared_error
from mcomp_stages.methods.quantization.observers.observer import Integers
from tests.stages.methods.quantization.observers.streams import SYMMETRIC, laplace, normal, observed


def slow_error(bins: Bins, first: int, end: int, levels: int) -> float:
    """Quantize each centre on its own."""
    low, high = (bins.first + first) * bins.width, (bins.first + end) * bins.width
    step = (high - low) / (levels - 1)
    zero = min(max(round(-low / step), 0), levels - 1)
    error = 0.0
    for bin, count in enumerate(bins.counts.tolist()):
        value = (bins.first + bin + 0.5) * bins.width
        nearest = min(((level - zero) * step for level in range(levels)), key=lambda at: abs(at - value))
        error += count * (value - nearest) ** 2
    return error / sum(bins.counts.tolist())


@given(
    counts=st.lists(st.integers(0, 50), min_size=8, max_size=30).filter(lambda counts: sum(counts) > 0),
    data=st.data(),
)
def test_the_error_is_that_of_every_value_on_its_own(counts: list[int], data: st.DataObject) -> None:
    levels, zero = data.draw(st.integers(2, 8)), data.draw(st.integers(0, len(counts)))
    first = data.draw(st.integers(0, zero))
    end = data.draw(st.integers(max(zero, first + 1), max(len(counts), first + 1)))
    bins = Bins(torch.tensor(counts).double(), -zero, 1.0, 0)
    fast = squared_error(bins, levels)(torch.tensor([first]), torch.tensor([end])).item()
    assert fast == pytest.approx(slow_error(bins, first, end, levels), abs=1e-9)


def error_of(values: Tensor, low: float, high: float) -> float:
    scale, zero_point = activation_grid(torch.tensor(low), torch.tensor(high), Activations())
    integers = (torch.round(values / scale) + zero_point).clamp(0, 255)
    return ((integers - zero_point.float()) * scale - values).square().mean().item()


@pytest.mark.parametrize("values", [laplace(50_000), laplace(50_000).abs(), normal(50_000) - 1])
def test_the_range_is_nearly_as_good_as_any(values: Tensor) -> None:
    low, high = observed(MSE(), [values])
    found = error_of(values, low, high)
    shares = torch.linspace(0.4, 1, 40).tolist()
    best = min(
        error_of(values, values.min().item() * below, values.max().item() * above)
        for below in (shares if low < 0 else [1.0])
        for above in shares
    )
    assert found <= 1.02 * best
    assert found <= error_of(values, *observed(MinMax(), [values]))


def test_fewer_levels_cut_more() -> None:
    values = laplace(50_000).abs()
    highs = [observed(MSE(), [values], Integers(levels))[1] for levels in (8, 16, 64, 256)]
    assert highs == sorted(highs)
    assert highs[0] < 0.5 * values.max()


def test_a_symmetric_range_is_the_same_on_both_sides() -> None:
    low, high = observed(MSE(), [laplace(20_000) - 0.5], SYMMETRIC)
    assert low == -high


def test_rare_outliers_are_cut_off() -> None:
    values = torch.cat([normal(1_000_000).abs(), torch.full((2,), 100.0)])
    assert observed(MSE(), [values])[1] < 70
