"""All values but a few."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mcomp_stages.methods.quantization.observers.config import MinMax, Percentile
from mcomp_stages.methods.quantization.observers.histogram import CAPACITY
from tests.stages.methods.quantization.observers.streams import SYMMETRIC, VALUES, laplace, observed


@given(VALUES, st.floats(50, 100))
def test_at_most_the_rest_is_beyond_each_end(values: list[float], percent: float) -> None:
    low, high = observed(Percentile(percent=percent), [torch.tensor(values)])
    most = (1 - percent / 100) * len(values) + 1e-9
    if (low, high) != (min(values), max(values)):
        assert sum(value > max(high, 0) for value in values) <= most
        assert sum(value < min(low, 0) for value in values) <= most


@pytest.mark.parametrize("percent", [90.0, 99.0, 99.9])
def test_the_ends_are_the_quantiles_to_a_bin(percent: float) -> None:
    values = laplace(20_000)
    bin = (values.max() - values.min()).item() / (CAPACITY // 2)
    low, high = observed(Percentile(percent=percent), [values])
    ordered = values.sort().values
    cut = int((1 - percent / 100) * len(values))
    assert high == pytest.approx(ordered[-1 - cut].item(), abs=1.01 * bin)
    assert low == pytest.approx(ordered[cut].item(), abs=1.01 * bin)


def test_a_hundred_percent_is_everything() -> None:
    values = laplace(1000)
    assert observed(Percentile(percent=100), [values]) == observed(MinMax(), [values])


def test_zeros_are_values_too() -> None:
    values = torch.cat([torch.zeros(9_900), torch.arange(1, 101).float()])
    assert observed(Percentile(percent=99.5), [values])[1] == pytest.approx(50, abs=0.1)


def test_something_is_left_where_nearly_all_is_zero() -> None:
    values = torch.cat([torch.zeros(1_000_000), torch.tensor([-1.0, 2.0])])
    assert observed(Percentile(percent=99.9), [values]) == (-1.0, 2.0)


def test_a_symmetric_range_is_the_percentile_of_absolute_values() -> None:
    values = laplace(20_000) - 1
    low, high = observed(Percentile(percent=99), [values], SYMMETRIC)
    assert low == -high
    assert high == pytest.approx(values.abs().quantile(0.99).item(), rel=0.01)
