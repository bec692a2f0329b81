"""Outliers of inputs that move into weights."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mcomp_stages.methods.quantization.dynamic import dynamic_quantize_linear
from mcomp_stages.methods.quantization.weights.grid import Width, extremes
from mcomp_stages.methods.quantization.weights.round_to_nearest import round_to_nearest
from mcomp_stages.methods.quantization.weights.smoothing import (
    InputStatistics,
    best_scale,
    expected_error,
    smoothing_scale,
)


def layer(outlier: float, seed: int = 0) -> tuple[Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    weight_OK = torch.randn(24, 16, generator=generator)
    batches = [torch.randn(5, 40, 16, generator=generator) for _ in range(4)]
    for batch in batches:
        batch[..., 2] *= outlier
    return weight_OK, batches


def statistics(batches: list[Tensor]) -> InputStatistics:
    inputs = InputStatistics()
    for batch in batches:
        inputs.see(batch)
    return inputs


def slow_scale(weight_OK: Tensor, batches: list[Tensor], strength: float) -> list[float]:
    """Compute equation 4 number by number, then divide by the geometric middle."""
    rows = torch.cat([batch.flatten(0, 1) for batch in batches]).tolist()
    scale = []
    for column in range(weight_OK.shape[1]):
        largest_input = max(abs(row[column]) for row in rows)
        largest_weight = max(abs(value) for value in weight_OK[:, column].tolist())
        scale.append(largest_input**strength / largest_weight ** (1 - strength))
    middle = math.sqrt(max(scale) * min(scale))
    return [value / middle for value in scale]


def measured_error(weight_OK: Tensor, batches: list[Tensor], scale_K: Tensor) -> float:
    """Round both factors as they are served, and compare the products with those in float."""
    rounded = round_to_nearest(
        weight_OK * scale_K.float(), Width(8, None, symmetric=True), extremes
    ).numbers()
    total, rows = 0.0, 0
    for batch in batches:
        integers, step, zero = dynamic_quantize_linear(batch / scale_K.float())
        x = (integers.double() - zero) * step
        total += float((x @ rounded.double().T - batch.double() @ weight_OK.double().T).square().sum())
        rows += batch.shape[0] * batch.shape[1]
    return total / rows


@given(strength=st.floats(0.05, 0.95), outlier=st.floats(0.1, 100))
def test_the_scale_is_that_of_the_paper(strength: float, outlier: float) -> None:
    weight_OK, batches = layer(outlier)
    scale_K = smoothing_scale(weight_OK, statistics(batches), strength)
    torch.testing.assert_close(
        scale_K, torch.tensor(slow_scale(weight_OK, batches, strength), dtype=torch.float64)
    )


@pytest.mark.parametrize("outlier", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("strength", [0.5, 0.8])
def test_the_expected_error_is_about_the_one_that_is_made(outlier: float, strength: float) -> None:
    weight_OK, batches = layer(outlier)
    inputs = statistics(batches)
    for scale_K in (torch.ones(16).double(), smoothing_scale(weight_OK, inputs, strength)):
        expected = expected_error(weight_OK, inputs, scale_K, bits=8)
        assert expected == pytest.approx(measured_error(weight_OK, batches, scale_K), rel=0.25)


def test_an_outlier_is_smoothed_and_costs_a_fraction_then() -> None:
    weight_OK, batches = layer(50.0)
    scale_K, strength = best_scale([weight_OK[:8], weight_OK[8:]], statistics(batches), bits=8)
    assert strength > 0
    assert scale_K.argmax() == 2
    plain = measured_error(weight_OK, batches, torch.ones(16))
    assert measured_error(weight_OK, batches, scale_K) < 0.2 * plain


def test_inputs_that_are_even_already_stay_as_they_are() -> None:
    weight_OK, batches = layer(1.0)
    scale_K, strength = best_scale([weight_OK], statistics(batches), bits=8)
    assert strength == 0
    assert bool((scale_K == 1).all())


def test_a_channel_that_is_always_zero_is_not_scaled() -> None:
    weight_OK, batches = layer(50.0)
    for batch in batches:
        batch[..., 5] = 0
    weight_OK[:, 7] = 0
    scale_K = smoothing_scale(weight_OK, statistics(batches), 0.8)
    assert scale_K[[5, 7]].tolist() == [1, 1]
    assert bool(scale_K.isfinite().all())
    nothing = statistics([torch.zeros(2, 3, 16)])
    assert bool((smoothing_scale(weight_OK, nothing, 0.8) == 1).all())


def test_inputs_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        InputStatistics().see(torch.tensor([[1.0, torch.nan]]))
