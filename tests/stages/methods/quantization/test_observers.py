"""Ranges from batches."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mcomp_stages.methods.quantization.fake_quantize import ActivationQuantizer
from mcomp_stages.methods.quantization.observers import NEWEST

BATCHES = st.lists(st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=5), min_size=1, max_size=6)


def observed(batches: list[list[float]], observer: str) -> tuple[float, float]:
    quantizer = ActivationQuantizer()
    for batch in batches:
        quantizer.observe(torch.tensor(batch), observer)
    return quantizer.low.item(), quantizer.high.item()


@settings(deadline=None)
@given(BATCHES)
def test_minmax_is_the_range_of_all_values(batches: list[list[float]]) -> None:
    values = [value for batch in batches for value in batch]
    assert observed(batches, "minmax") == (min(values), max(values))


@settings(deadline=None)
@given(BATCHES)
def test_moving_average_starts_at_the_first_batch_and_moves_by_a_share(batches: list[list[float]]) -> None:
    low, high = min(batches[0]), max(batches[0])
    for batch in batches[1:]:
        low += NEWEST * (min(batch) - low)
        high += NEWEST * (max(batch) - high)
    assert observed(batches, "moving_average") == pytest.approx((low, high), abs=1e-4)
