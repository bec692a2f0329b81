"""How much of a signal rounding took away."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mcomp.measure.sqnr import LARGEST_DB, outputs, outputs_sqnr_db, sqnr_db


@given(share=st.floats(1e-6, 10), seed=st.integers(0, 99))
def test_noise_of_a_share_of_the_signal_has_the_ratio_of_the_definition(share: float, seed: int) -> None:
    signal = torch.randn(50, generator=torch.Generator().manual_seed(seed)).double()
    assert sqnr_db(signal, signal * (1 + share)) == pytest.approx(-20 * math.log10(share), abs=1e-6)


def test_equal_tensors_have_the_largest_ratio_also_if_they_are_zero() -> None:
    assert sqnr_db(torch.ones(3), torch.ones(3)) == LARGEST_DB
    assert sqnr_db(torch.zeros(3), torch.zeros(3)) == LARGEST_DB


def test_noise_without_a_signal_or_without_an_end_is_all_noise() -> None:
    assert sqnr_db(torch.zeros(3), torch.ones(3)) == -LARGEST_DB
    assert sqnr_db(torch.ones(3), torch.tensor([1.0, math.nan, 1.0])) == -LARGEST_DB


def test_batches_of_different_shapes_count_by_their_elements() -> None:
    layer = nn.Linear(3, 2)
    batches = [{"input": torch.randn(size, 3)} for size in (4, 1)]
    expected = outputs(layer, batches)
    assert layer.training
    assert [tuple(each.shape) for each in expected] == [(4, 2), (1, 2)]
    noisy = [each * 1.1 for each in expected]
    assert outputs_sqnr_db(expected, noisy) == pytest.approx(20, abs=1e-4)
