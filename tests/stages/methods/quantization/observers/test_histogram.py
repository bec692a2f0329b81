"""Counting a stream: the same counts whatever the order, and no memory of how many values there were."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mcomp_stages.methods.quantization.observers.histogram import CAPACITY, Histogram
from tests.stages.methods.quantization.observers.streams import SYMMETRIC, UNSIGNED, VALUES, normal


def counted(batches: list[list[float]]) -> Histogram:
    histogram = Histogram()
    for batch in batches:
        histogram.update(torch.tensor(batch))
    return histogram


def slow_counts(values: list[float]) -> tuple[int, dict[int, int]]:
    """Return the exponent and the counts, by trying widths one after the other, in Python's own numbers."""
    low, high = min(0.0, *values), max(0.0, *values)
    exponent = -126
    while math.floor(high / 2.0**exponent) - math.floor(low / 2.0**exponent) >= CAPACITY:
        exponent += 1
    return exponent, Counter(math.floor(value / 2.0**exponent) for value in values if value != 0)


def as_dict(histogram: Histogram) -> dict[int, int]:
    return {int(i) - CAPACITY: int(histogram.counts[i]) for i in histogram.counts.nonzero().flatten()}


@given(VALUES)
def test_counts_are_those_of_the_obvious_way(values: list[float]) -> None:
    histogram = counted([values])
    assert (histogram.exponent, as_dict(histogram)) == slow_counts(values)
    assert histogram.num_zeros == values.count(0)


@given(VALUES, st.randoms(use_true_random=False), st.integers(1, 7))
def test_order_and_batches_change_nothing(values: list[float], random: st.DataObject, size: int) -> None:
    whole = counted([values])
    random.shuffle(values)  # type: ignore[attr-defined]
    cut = counted([values[start : start + size] for start in range(0, len(values), size)])
    assert cut.exponent == whole.exponent
    assert torch.equal(cut.counts, whole.counts)
    assert cut.span() == whole.span()


# Bins of values near the smallest floats would be narrower than those.
LARGE_ENOUGH = st.lists(
    st.floats(-1e6, 1e6, width=32).filter(lambda value: not 0 < abs(value) < 1e-20), min_size=1, max_size=40
)


@given(LARGE_ENOUGH, st.integers(-20, 20))
def test_values_times_a_power_of_two_move_the_width_alone(values: list[float], power: int) -> None:
    plain = counted([values])
    scaled = counted([[value * 2.0**power for value in values]])
    assert torch.equal(scaled.counts, plain.counts)
    if any(values):
        assert scaled.exponent == plain.exponent + power


@given(VALUES)
def test_the_span_has_many_bins_and_never_too_many(values: list[float]) -> None:
    histogram = counted([values])
    assert histogram.num_bins() <= CAPACITY
    if max(map(abs, values)) > 1e-30:
        assert histogram.num_bins() > CAPACITY // 2 - 2


def test_memory_does_not_depend_on_the_number_of_values() -> None:
    histogram = Histogram()
    for seed in range(20):
        histogram.update(normal(10_000, seed) * 2.0**seed)
    assert histogram.counts.shape == (2 * CAPACITY,)
    assert int(histogram.counts.sum()) + histogram.num_zeros == 200_000


def test_a_symmetric_grid_sees_absolute_values() -> None:
    values = normal(1000) - 0.4
    folded, absolute = Histogram(), Histogram()
    folded.update(values)
    absolute.update(values.abs())
    bins = folded.bins(SYMMETRIC)
    assert bins.first == 0
    # Both halve the same numbers: only the edges of bins below zero belong to the other side.
    absolute_counts = absolute.bins(UNSIGNED).counts
    assert bins.counts.sum() == absolute_counts.sum() == 1000
    step = round(bins.width / absolute.width)
    merged = absolute_counts[: len(absolute_counts) // step * step].view(-1, step).sum(1)
    assert torch.equal(bins.counts[: len(merged)], merged)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused_before_they_count(bad: float) -> None:
    histogram = counted([[1.0, 2.0]])
    before = histogram.counts.clone()
    with pytest.raises(ValueError, match="1 of 3 values are not finite"):
        histogram.update(torch.tensor([1.0, bad, 3.0]))
    assert torch.equal(histogram.counts, before)


def test_the_largest_and_smallest_floats_are_counted() -> None:
    for value in (3e38, -3e38, 1.2e-38, -1.2e-38):
        assert sum(as_dict(counted([[value, 1.0]])).values()) == 2
