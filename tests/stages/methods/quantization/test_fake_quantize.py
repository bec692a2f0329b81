"""Quantizers in training: the grid is the operators', gradients pass where nothing saturates."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mcomp_stages.methods.quantization.fake_quantize import (
    ActivationQuantizer,
    WeightQuantizer,
    activation_grid,
    weight_integers,
    weight_scale,
)
from mcomp_stages.methods.quantization.operators import dequantize_linear, quantize_linear

BOUNDS = st.floats(-100, 100, width=32)


def quantizer(low: float, high: float) -> ActivationQuantizer:
    made = ActivationQuantizer().eval()
    made.low.fill_(low)
    made.high.fill_(high)
    return made


@settings(deadline=None)  # the first call of an operator compiles
@given(low=BOUNDS, high=BOUNDS)
def test_zero_is_on_every_activation_grid(low: float, high: float) -> None:
    zero = torch.zeros(1)
    assert quantizer(min(low, high), max(low, high))(zero).item() == 0


@settings(deadline=None)  # the first call of an operator compiles
@given(values=st.lists(BOUNDS, min_size=1, max_size=30), low=BOUNDS, high=BOUNDS)
def test_activations_are_rounded_as_the_operators_round(values: list[float], low: float, high: float) -> None:
    x, made = torch.tensor(values), quantizer(min(low, high), max(low, high))
    scale, zero_point = made.grid()
    served = dequantize_linear(quantize_linear(x, scale, zero_point, 0), scale, zero_point, 0)
    assert torch.equal(made(x), served)


@settings(deadline=None)  # the first call of an operator compiles
@given(low=BOUNDS, high=BOUNDS)
def test_the_grid_covers_the_range_to_half_a_step(low: float, high: float) -> None:
    low, high = min(low, high), max(low, high)
    scale, zero_point = activation_grid(torch.tensor(low), torch.tensor(high))
    ends = (torch.tensor([0.0, 255.0]) - zero_point) * scale
    slack = 0.501 * scale + 1e-5 * max(abs(low), abs(high))
    assert ends[0] <= min(low, 0) + slack
    assert ends[1] >= max(high, 0) - slack


def test_a_relu_output_uses_the_whole_grid() -> None:
    scale, zero_point = activation_grid(torch.tensor(0.0), torch.tensor(2.55))
    assert zero_point == 0
    assert torch.isclose(scale, torch.tensor(0.01))


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
    integers, scale = weight_integers(weight_OK, 8)
    assert integers.tolist() == [[32, 64, 127], [-127, -64, -32]]
    assert torch.allclose(scale, torch.full((2,), 4 / 127))


def test_a_channel_of_zeros_stays_zero() -> None:
    weight_OK = torch.zeros(2, 3)
    assert (weight_scale(weight_OK, 8) > 0).all()
    assert torch.equal(WeightQuantizer(8)(weight_OK), weight_OK)


@settings(deadline=None)  # the first call of an operator compiles
@given(st.lists(st.floats(-10, 10, width=32), min_size=6, max_size=6), st.sampled_from([7, 8]))
def test_weights_are_off_by_at_most_half_a_step_and_get_the_whole_gradient(
    values: list[float], bits: int
) -> None:
    weight_OK = torch.tensor(values).reshape(2, 3).requires_grad_()
    rounded = WeightQuantizer(bits)(weight_OK)
    step_O1 = weight_scale(weight_OK, bits)[:, None]
    assert ((rounded - weight_OK).abs() <= 0.5001 * step_O1).all()
    integers, scale = weight_integers(weight_OK, bits)
    assert integers.abs().max() <= 2 ** (bits - 1) - 1
    assert torch.equal(rounded, integers * scale[:, None])
    rounded.sum().backward()
    assert weight_OK.grad is not None
    assert (weight_OK.grad == 1).all()
