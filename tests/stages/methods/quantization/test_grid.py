"""Grids against what is written down for each width, and at their ends."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mcomp_stages.methods.quantization.config import Activations, Weights
from mcomp_stages.methods.quantization.fake_quantize import WeightQuantizer
from mcomp_stages.methods.quantization.grid import (
    activation_grid,
    activation_limits,
    spread,
    weight_grid,
    weight_limits,
)
from mcomp_stages.methods.quantization.sites import WeightSite

BOUNDS = st.floats(-100, 100, width=32)
WIDTHS = (2, 3, 4, 5, 6, 7, 8)


@pytest.mark.parametrize(
    ("settings", "ends"),
    [
        (Activations(), (0, 255)),
        (Activations(signed=True), (-128, 127)),
        (Activations(bits=4), (0, 15)),
        (Activations(bits=2, signed=True), (-2, 1)),
        (Activations(bits=16), (0, 65535)),
        (Weights(), (-127, 127)),
        (Weights(bits=7), (-63, 63)),
        (Weights(bits=2), (-1, 1)),
        (Weights(bits=4, symmetric=False), (0, 15)),
    ],
)
def test_limits_are_those_of_the_width(settings: Activations | Weights, ends: tuple[int, int]) -> None:
    limits = weight_limits(settings) if isinstance(settings, Weights) else activation_limits(settings)
    assert limits[:2] == ends
    assert torch.iinfo(limits.dtype).min <= ends[0]
    assert torch.iinfo(limits.dtype).max >= ends[1]


def test_products_of_7_bit_weights_cannot_saturate_16_bits() -> None:
    pair = 2 * activation_limits(Activations()).highest * weight_limits(Weights(bits=7)).highest
    assert pair < 2**15 < 2 * 255 * weight_limits(Weights()).highest


@given(low=BOUNDS, high=BOUNDS, bits=st.sampled_from(WIDTHS), signed=st.booleans(), symmetric=st.booleans())
def test_an_activation_grid_covers_the_range_to_half_a_step(
    low: float, high: float, bits: int, signed: bool, symmetric: bool
) -> None:
    low, high = min(low, high), max(low, high)
    settings = Activations.model_validate({"bits": bits, "signed": signed, "symmetric": symmetric})
    limits = activation_limits(settings)
    scale, zero_point = activation_grid(torch.tensor(low), torch.tensor(high), settings)
    ends = (torch.tensor([limits.lowest, limits.highest]) - zero_point.int()) * scale
    slack = 0.501 * scale + 1e-5 * max(abs(low), abs(high))
    assert ends[0] <= min(low, 0) + slack
    assert ends[1] >= max(high, 0) - slack
    if symmetric and low < 0:
        assert zero_point == (2 ** (bits - 1) if not signed else 0)


def test_a_relu_output_uses_the_whole_grid() -> None:
    for symmetric in (False, True):
        settings = Activations(symmetric=symmetric)
        scale, zero_point = activation_grid(torch.tensor(0.0), torch.tensor(2.55), settings)
        assert zero_point == 0
        assert torch.isclose(scale, torch.tensor(0.01))


def slow_rounded(row: list[float], bits: int, symmetric: bool) -> list[float]:
    """Round numbers that share a scale, one by one."""
    if symmetric:
        highest = 2 ** (bits - 1) - 1
        step = max(abs(value) for value in row) / highest
        return [round(value / step) * step for value in row] if step else row
    low, high = min(*row, 0.0), max(*row, 0.0)
    step = (high - low) / (2**bits - 1)
    if not step:
        return row
    zero_point = round(-low / step)
    integers = [min(max(round(value / step) + zero_point, 0), 2**bits - 1) for value in row]
    return [(integer - zero_point) * step for integer in integers]


@pytest.mark.parametrize("bits", [2, 4, 7, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(
    ("per", "size", "axis"),
    [("tensor", 12, 0), ("channel", 6, 0), ("channel", 2, 1), ("group", 3, 0), ("group", 2, 1)],
)
def test_weights_are_rounded_as_one_by_one(
    bits: int, symmetric: bool, per: str, size: int, axis: int
) -> None:
    weight = torch.randn(2, 6, generator=torch.Generator().manual_seed(bits))
    site = WeightSite.model_validate(
        {
            "bits": bits,
            "symmetric": symmetric,
            "per": per,
            "axis": axis,
            "group_size": size if per == "group" else None,
        }
    )
    # Channels on axis 0: what shares a scale lies side by side in a row; on axis 1: in a column.
    rows = (weight if axis == 0 else weight.T).reshape(-1, size).tolist()
    expected = torch.tensor([slow_rounded(row, bits, symmetric) for row in rows])
    expected = expected.reshape(2, 6) if axis == 0 else expected.reshape(6, 2).T
    rounded = WeightQuantizer(site)(weight)
    assert torch.allclose(rounded, expected, atol=1e-6)
    integers, scale, zero_point = WeightQuantizer(site).integers(weight)
    steps = integers.int() - spread(zero_point.int(), integers, site.scale_axis)
    assert torch.equal(steps * spread(scale, integers, site.scale_axis), rounded)


def test_a_matrix_has_a_scale_for_each_group_of_its_inputs() -> None:
    weight = torch.arange(12.0).reshape(2, 6)
    settings = Weights(per="group", group_size=3)
    scale, zero_point = weight_grid(weight, settings, axis=0)
    assert torch.allclose(scale * 127, torch.tensor([[2.0, 5.0], [8.0, 11.0]]))
    assert zero_point.shape == scale.shape
    turned, _ = weight_grid(weight.T.contiguous(), settings, axis=1)
    assert torch.equal(turned, scale.T)


def test_gradients_stop_where_a_stored_grid_ends() -> None:
    state = {"scale": torch.tensor([1.0]), "zero_point": torch.tensor([0], dtype=torch.int8)}
    quantizer = WeightQuantizer(WeightSite(bits=2, scale="stored"), state)
    weight = torch.tensor([[-3.0, -0.9, 0.2, 1.4, 1.6]], requires_grad=True)
    quantizer(weight).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [[0, 1, 1, 1, 0]]
