"""Ranges from the extremes of batches."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mcomp_stages.methods.quantization.observers.config import MinMax, MovingAverage
from tests.stages.methods.quantization.observers.streams import SYMMETRIC, observed

BATCHES = st.lists(st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=5), min_size=1, max_size=6)


def tensors(batches: list[list[float]]) -> list[torch.Tensor]:
    return [torch.tensor(batch) for batch in batches]


@given(BATCHES)
def test_minmax_is_the_range_of_all_values(batches: list[list[float]]) -> None:
    values = [value for batch in batches for value in batch]
    assert observed(MinMax(), tensors(batches)) == (min(values), max(values))


@given(BATCHES, st.floats(0.01, 1))
def test_moving_average_starts_at_the_first_batch_and_moves_by_a_share(
    batches: list[list[float]], newest: float
) -> None:
    low, high = min(batches[0]), max(batches[0])
    for batch in batches[1:]:
        low += newest * (min(batch) - low)
        high += newest * (max(batch) - high)
    found = observed(MovingAverage(newest=newest), tensors(batches))
    assert found == pytest.approx((low, high), abs=1e-4)


def test_a_symmetric_range_holds_both_extremes() -> None:
    assert observed(MinMax(), [torch.tensor([-3.0, 1.0])], SYMMETRIC) == (-3, 3)
