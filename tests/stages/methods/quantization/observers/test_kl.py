"""The divergence of a quantized distribution, and the range it chooses."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mcomp_stages.methods.quantization.observers.config import KL, MinMax
from mcomp_stages.methods.quantization.observers.histogram import Bins, Histogram
from mcomp_stages.methods.quantization.observers.kl import divergence
from mcomp_stages.methods.quantization.observers.observer import Integers
from tests.stages.methods.quantization.observers.streams import SYMMETRIC, UNSIGNED, laplace, normal, observed

COUNTS = st.lists(st.integers(0, 50), min_size=8, max_size=40).filter(lambda counts: sum(counts) > 0)


def slow_divergence(counts: list[int], first: int, end: int, levels: int) -> float:
    """Migacz's loop over bins, with half a value where the quantized distribution has none."""
    reference = [float(count) for count in counts[first:end]]
    inside = sum(reference)
    if inside == 0:
        return math.inf
    quantized = [0.0] * (end - first)
    for level in range(levels):
        part = range((end - first) * level // levels, (end - first) * (level + 1) // levels)
        filled = [bin for bin in part if reference[bin] > 0]
        for bin in filled:
            quantized[bin] = sum(reference[other] for other in part) / len(filled)
    reference[0] += sum(counts[:first])
    reference[-1] += sum(counts[end:])
    total = sum(reference)
    return sum(
        p / total * math.log((p / total) / ((q or 0.5) / inside))
        for p, q in zip(reference, quantized, strict=True)
        if p > 0
    )


@given(COUNTS, st.data())
def test_the_divergence_is_that_of_the_slow_loop(counts: list[int], data: st.DataObject) -> None:
    levels = data.draw(st.integers(2, 8))
    first = data.draw(st.integers(0, len(counts) - levels))
    end = data.draw(st.integers(first + levels, len(counts)))
    bins = Bins(torch.tensor(counts).double(), 0, 1.0, 0)
    fast = divergence(bins, levels)(torch.tensor([first]), torch.tensor([end])).item()
    assert fast == pytest.approx(slow_divergence(counts, first, end, levels), abs=1e-9)


def test_the_chosen_end_is_the_best_of_those_looked_at() -> None:
    histogram = Histogram()
    histogram.update(laplace(3000).abs())
    counts = histogram.bins(UNSIGNED).counts.int().tolist()
    steps = (len(counts) - 16) // 256
    losses = {end: slow_divergence(counts, 0, end, 16) for end in range(len(counts), 15, -steps)}
    best = min(losses, key=lambda end: losses[end])
    _, high = observed(KL(), [laplace(3000).abs()], Integers(16))
    assert high == pytest.approx(best * histogram.width)


def test_an_outlier_is_cut_off_and_a_bulk_without_one_is_not() -> None:
    bulk = normal(100_000).abs()
    with_outlier = torch.cat([bulk, torch.tensor([1000.0])])
    _, plain = observed(KL(), [bulk])
    _, cut = observed(KL(), [with_outlier])
    assert 0.8 * bulk.max() < plain <= bulk.max()
    assert 0.5 * bulk.max() < cut < 200  # as fine as bins that 1000 made wide can tell


def test_fewer_levels_cut_more() -> None:
    values = laplace(50_000)
    assert observed(KL(), [values], Integers(16))[1] < observed(KL(), [values], Integers(256))[1]


def test_both_ends_of_a_two_sided_range_are_cut() -> None:
    values = torch.cat([normal(100_000), torch.tensor([-300.0, 300.0])])
    low, high = observed(KL(), [values])
    assert -100 < low < -2
    assert 2 < high < 100


def test_a_symmetric_range_is_the_same_on_both_sides() -> None:
    low, high = observed(KL(), [laplace(20_000) - 0.5], SYMMETRIC)
    assert low == -high


def test_zeros_do_not_count() -> None:
    values = laplace(20_000).abs()
    with_zeros = torch.cat([values, torch.zeros(500_000)])
    assert observed(KL(), [with_zeros]) == observed(KL(), [torch.cat([values, torch.zeros(1)])])


def test_values_of_as_many_kinds_as_levels_are_all_kept() -> None:
    values = torch.arange(1, 17).repeat(100).float()
    assert observed(KL(), [values], Integers(16)) == observed(MinMax(), [values], Integers(16))
