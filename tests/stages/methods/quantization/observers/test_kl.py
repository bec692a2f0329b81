"""The divergence of a quantized distribution, and the range it chooses."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mcomp_stages.methods.quantization.observers.config import KL, MinMax
from mcomp_stages.methods.quantization.observers.histogram import Bins, Histogram
from mcomp_stages.methods.quantization.observers.kl import MOST_CUT, divergence, without_point_masses
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
    bins = histogram.bins(UNSIGNED)
    counts = without_point_masses(bins, 16).counts.tolist()
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


def slow_without_point_masses(counts: list[int], reach: int) -> list[float]:
    """Look around each bin."""
    found: list[float] = []
    for bin, count in enumerate(counts):
        near = [
            counts[at] for at in range(bin - reach, bin + reach + 1) if 0 <= at < len(counts) and at != bin
        ]
        filled = [each for each in near if each > 0]
        found.append(min(count, 2 * sum(filled) / len(filled)) if filled else count)
    return found


@given(COUNTS, st.integers(2, 8))
def test_a_bin_holds_no_more_than_twice_what_the_filled_ones_around_it_do(
    counts: list[int], levels: int
) -> None:
    found = without_point_masses(Bins(torch.tensor(counts).double(), 0, 1.0, 0), levels)
    assert found.counts.tolist() == pytest.approx(slow_without_point_masses(counts, len(counts) // levels))


def test_a_background_does_not_choose_the_range() -> None:
    strokes = normal(20_000).abs()
    background = torch.tensor([0.031, 0.11, 0.4, 0.57]).repeat(40_000)
    assert observed(KL(), [torch.cat([strokes, background])])[1] > 0.8 * observed(KL(), [strokes])[1]


@given(st.integers(0, 10**6), st.sampled_from([16, 256]))
def test_no_more_is_cut_off_than_two_levels_have_room_for(seed: int, levels: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    values = torch.rand(2000, generator=draw) ** float(torch.randint(1, 30, (), generator=draw))
    _, high = observed(KL(), [values], Integers(levels))
    assert int((values > high).sum()) <= MOST_CUT / levels * len(values)


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
