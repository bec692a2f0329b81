"""Grids of groups: zero is a code, nothing is off by more than the rounding, the search is never worse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mcomp_stages.methods.quantization.weights.grid import (
    FITS,
    SMALLEST_SCALE,
    Fit,
    Width,
    extremes,
    grouped,
    least_squares,
    squared_error,
)
from mcomp_stages.methods.quantization.weights.round_to_nearest import round_to_nearest
from tests.stages.methods.quantization.weights.samples import random_weight

WIDTHS = st.builds(Width, st.integers(2, 8), st.sampled_from([None, 1, 3, 16]), st.booleans())
ROWS = st.lists(st.floats(-1000, 1000, width=32), min_size=1, max_size=20)


def slow_round(row: list[float], width: Width) -> list[float]:
    """Round one row group by group, in Python's own numbers."""
    size = width.group_size or len(row)
    result = []
    for start in range(0, len(row), size):
        group = row[start : start + size]
        low, high = min(0.0, *group, 0.0), max(0.0, *group, 0.0)
        top, middle = 2**width.bits - 1, 2 ** (width.bits - 1)
        exact = max(high / (middle - 1), -low / middle) if width.symmetric else (high - low) / top
        scale = max(float16_not_below(np.float32(exact)), SMALLEST_SCALE)
        zero = middle if width.symmetric else min(top, max(0, round(-low / scale)))
        for value in group:
            code = min(top, max(0, round(value / scale + zero)))
            result.append((code - zero) * scale)
    return result


def float16_not_below(number: np.float32) -> float:
    half = np.float16(number)
    return float(half if half >= number else np.nextafter(half, np.float16(np.inf)))


@settings(deadline=None)
@given(row=ROWS, width=WIDTHS)
def test_rounding_equals_one_number_after_the_other(row: list[float], width: Width) -> None:
    numbers = round_to_nearest(torch.tensor([row]), width, extremes).numbers()[0]
    scale = max(map(abs, row)) / 2 ** (width.bits - 1)
    differs = (numbers - torch.tensor(slow_round(row, width))).abs() > 1e-5 * scale
    assert not differs.any() or is_tie(row, numbers.tolist(), width)


def is_tie(row: list[float], numbers: list[float], width: Width) -> bool:
    """Whether both roundings are as far from the value, as float32 can tell."""
    slow = slow_round(row, width)
    return all(
        abs(abs(value - here) - abs(value - there)) <= 1e-3 * max(abs(value), SMALLEST_SCALE)
        for value, here, there in zip(row, numbers, slow, strict=True)
    )


@settings(deadline=None)
@given(row=ROWS, width=WIDTHS, name=st.sampled_from(list(FITS)))
def test_zero_stays_zero(row: list[float], width: Width, name: str) -> None:
    weight = torch.tensor([[*row, 0.0]])
    assert round_to_nearest(weight, width, FITS[name]).numbers()[0, -1] == 0


@settings(deadline=None)
@given(row=ROWS, width=WIDTHS)
def test_no_number_is_off_by_more_than_the_rounding(row: list[float], width: Width) -> None:
    weight = torch.tensor([row])
    rounded = round_to_nearest(weight, width, extremes)
    scale = rounded.grid.scale.repeat_interleave(rounded.group_size, 1)[:, : len(row)]
    # Half a step, at the ends up to half a step more, by which the zero was rounded.
    assert ((rounded.numbers() - weight).abs() <= (0.501 if width.symmetric else 1.001) * scale).all()


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), width=WIDTHS)
def test_the_search_is_never_worse_than_the_extremes(seed: int, width: Width) -> None:
    weight = grouped(random_weight(3, 40, seed), width)
    wide, searched = extremes(weight, width), least_squares(weight, width)
    assert (squared_error(weight, searched, width) <= squared_error(weight, wide, width)).all()


@pytest.mark.parametrize("fit", FITS.values())
def test_a_group_of_zeros_is_zeros(fit: Fit) -> None:
    rounded = round_to_nearest(torch.zeros(2, 8), Width(4, 4), fit)
    assert not rounded.numbers().any()
    assert (rounded.grid.scale > 0).all()


@pytest.mark.parametrize("fit", FITS.values())
def test_scales_are_numbers_of_float16(fit: Fit) -> None:
    scale = fit(grouped(random_weight(4, 64, seed=0), Width(3, 16)), Width(3, 16)).scale
    assert torch.equal(scale, scale.half().float())


def test_eight_levels_of_three_bits_are_all_used() -> None:
    codes = round_to_nearest(torch.linspace(-1, 0.8, 100)[None], Width(3), extremes).codes
    assert codes.unique().tolist() == list(range(8))


def test_a_symmetric_grid_has_its_zero_in_the_middle_and_reaches_both_ends() -> None:
    rounded = round_to_nearest(torch.tensor([[-8.0, 0.0, 7.0]]), Width(4, symmetric=True), extremes)
    assert rounded.codes.tolist() == [[0, 8, 15]]
    assert rounded.numbers().tolist() == [[-8.0, 0.0, 7.0]]


def test_sixteen_bits_are_as_good_as_float_for_a_weight() -> None:
    weight = random_weight(4, 64, seed=1)
    error = round_to_nearest(weight, Width(16, symmetric=True), extremes).numbers() - weight
    assert (error.abs() <= 0.51 * weight.abs().amax(1, keepdim=True) / 32700).all()


@pytest.mark.parametrize("value", [3e7, float("inf"), float("nan")])
def test_numbers_beyond_float16_scales_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="too large for scales in float16, or are not finite"):
        round_to_nearest(torch.tensor([[1.0, value]]), Width(8, symmetric=True), extremes)


def test_the_last_group_may_be_shorter() -> None:
    rounded = round_to_nearest(torch.tensor([[1.0, 2.0, 3.0, 0.03]]), Width(8, 3), extremes)
    assert rounded.grid.scale.shape == (1, 2)
    torch.testing.assert_close(rounded.numbers()[0, 3], torch.tensor(0.03), rtol=1e-3, atol=0)
