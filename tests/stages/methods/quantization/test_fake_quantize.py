"""Quantizers in training: the grid is the operators', gradients pass where nothing saturates."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mcomp_stages.methods.quantization.config import Activations
from mcomp_stages.methods.quantization.fake_quantize import (
    ActivationQuantizer,
    WeightQuantizer,
)
from mcomp_stages.methods.quantization.operators import dequantize_linear, quantize_linear
from mcomp_stages.methods.quantization.sites import WeightSite

BOUNDS = st.floats(-100, 100, width=32)


GRIDS = st.builds(
    Activations, bits=st.sampled_from([2, 3, 4, 7, 8, 16]), signed=st.booleans(), symmetric=st.booleans()
)


def quantizer(low: float, high: float, settings: Activations | None = None) -> ActivationQuantizer:
    made = ActivationQuantizer(settings).eval()
    made.low.fill_(low)
    made.high.fill_(high)
    return made


@settings(deadline=None)  # the first call of an operator compiles
@given(low=BOUNDS, high=BOUNDS, grid=GRIDS)
def test_zero_is_on_every_activation_grid(low: float, high: float, grid: Activations) -> None:
    zero = torch.zeros(1)
    assert quantizer(min(low, high), max(low, high), grid)(zero).item() == 0


@settings(deadline=None)  # the first call of an operator compiles
@given(values=st.lists(BOUNDS, min_size=1, max_size=30), low=BOUNDS, high=BOUNDS, grid=GRIDS)
def test_activations_are_rounded_as_the_operators_round(
    values: list[float], low: float, high: float, grid: Activations
) -> None:
    x, made = torch.tensor(values), quantizer(min(low, high), max(low, high), grid)
    scale, zero_point = made.grid()
    integers = quantize_linear(x, scale, zero_point, 0)
    ends = made.limits.lowest, made.limits.highest
    narrowed = integers.int().clamp(*ends).to(integers.dtype)
    assert torch.equal(made(x), dequantize_linear(narrowed, scale, zero_point, 0))


def test_a_constant_activation_is_kept() -> None:
    for value in (0.0, 3.5, -2.0):
        x, made = torch.full((4,), value), ActivationQuantizer()
        made.set_range((x.min(), x.max()), num_batches=1)
        assert torch.allclose(made(x), x)


def test_gradients_stop_where_values_saturate() -> None:
    x = torch.tensor([-5.0, -1.0, 0.3, 2.0, 5.0], requires_grad=True)
    quantizer(-1.0, 2.0)(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 1, 0]


def test_ranges_follow_training_batches_until_their_updates_are_spent() -> None:
    made = quantizer(0.0, 1.0).train()
    made.updates_left.fill_(1)
    made(torch.tensor([0.0, 3.0]))
    moved = made.high.item()
    assert 1.0 < moved < 3.0
    made(torch.tensor([0.0, 9.0]))
    assert made.high.item() == moved


def test_ranges_do_not_follow_in_inference() -> None:
    made = quantizer(0.0, 1.0)
    made.updates_left.fill_(5)
    made(torch.tensor([0.0, 3.0]))
    assert made.high.item() == 1.0
    assert made.updates_left.item() == 5


def test_a_channel_of_one_sign_is_symmetric() -> None:
    weight_OK = torch.tensor([[1.0, 2.0, 4.0], [-4.0, -2.0, -1.0]])
    integers, scale, _ = WeightQuantizer().integers(weight_OK)
    assert integers.tolist() == [[32, 64, 127], [-127, -64, -32]]
    assert torch.allclose(scale, torch.full((2,), 4 / 127))


def test_a_channel_of_zeros_stays_zero() -> None:
    weight_OK = torch.zeros(2, 3)
    assert (WeightQuantizer().grid(weight_OK)[0] > 0).all()
    assert torch.equal(WeightQuantizer()(weight_OK), weight_OK)


@settings(deadline=None)  # the first call of an operator compiles
@given(st.lists(st.floats(-10, 10, width=32), min_size=6, max_size=6), st.sampled_from([4, 7, 8]))
def test_weights_are_off_by_at_most_half_a_step_and_get_the_whole_gradient(
    values: list[float], bits: int
) -> None:
    weight_OK = torch.tensor(values).reshape(2, 3).requires_grad_()
    quantizer = WeightQuantizer(WeightSite.model_validate({"bits": bits}))
    rounded = quantizer(weight_OK)
    step_O1 = quantizer.grid(weight_OK)[0][:, None]
    assert ((rounded - weight_OK).abs() <= 0.5001 * step_O1).all()
    integers, scale, _ = quantizer.integers(weight_OK)
    assert integers.abs().max() <= 2 ** (bits - 1) - 1
    assert torch.equal(rounded, integers * scale[:, None])
    rounded.sum().backward()
    assert weight_OK.grad is not None
    assert (weight_OK.grad == 1).all()
