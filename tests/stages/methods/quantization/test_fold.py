# O = output channels, K = inputs
"""Folding a batch norm into integers, against the batch norm itself."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import batch_norm, linear

from mcomp_stages.methods.quantization.fake_quantize import WeightQuantizer
from mcomp_stages.methods.quantization.fold import IntegerLayer, integer_layer, norm_affine

INPUT_SCALE = torch.tensor(0.02)


def weight_integers(weight_OK: Tensor) -> tuple[Tensor, Tensor]:
    """The int8 weight and the scale of each channel."""
    integers, scale, _ = WeightQuantizer().integers(weight_OK)
    return integers, scale


def numbers(layer: IntegerLayer) -> tuple[Tensor, Tensor]:
    """What the integers stand for, in float64."""
    weight_OK = layer.weight.double() * layer.weight_scale.double()[:, None]
    return weight_OK, layer.bias.double() * layer.bias_scale.double()


def folded(
    weight_OK: Tensor, bias_O: Tensor | None, gamma: Tensor, beta: Tensor
) -> tuple[IntegerLayer, Tensor, Tensor]:
    """Fold, and run some inputs on the grid through the layer and through rounded weights with batch norm."""
    mean, variance = torch.linspace(-1, 1, len(gamma)), torch.linspace(0.5, 2, len(gamma))
    integers, scale = weight_integers(weight_OK)
    layer = integer_layer(
        integers, scale, bias_O, norm_affine(gamma, beta, mean, variance, 1e-5), INPUT_SCALE, 0
    )
    draw = torch.Generator().manual_seed(1)
    x_NK = torch.randint(0, 256, (8, weight_OK.shape[1]), generator=draw).double() * INPUT_SCALE
    rounded = integers.double() * scale.double()[:, None]
    before = linear(x_NK, rounded, None if bias_O is None else bias_O.double())
    statistics = (mean.double(), variance.double(), gamma.double(), beta.double())
    expected = batch_norm(before, *statistics, training=False, eps=1e-5)
    return layer, linear(x_NK, *numbers(layer)), expected


def close(got: Tensor, expected: Tensor, layer: IntegerLayer) -> bool:
    """Equal up to half a step of the bias and the rounding of the scales to float32."""
    slack = 0.5 * layer.bias_scale.double() + 1e-6 * expected.abs().amax(0) + 1e-9
    return bool(((got - expected).abs() <= slack + 1e-6 * expected.abs()).all())


@given(gamma=st.lists(st.floats(-3, 3, width=32), min_size=4, max_size=4), seed=st.integers(0, 1000))
@settings(deadline=None)
def test_folded_integers_compute_the_batch_norm(gamma: list[float], seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    weight_OK, bias_O = torch.randn(4, 6, generator=draw), torch.randn(4, generator=draw)
    layer, got, expected = folded(weight_OK, bias_O, torch.tensor(gamma), torch.randn(4, generator=draw))
    assert close(got, expected, layer)


def test_a_negative_gain_turns_the_integers_around() -> None:
    weight_OK = torch.tensor([[1.0, -2.0, 4.0]])
    plus, *_ = folded(weight_OK, None, torch.tensor([0.5]), torch.zeros(1))
    minus, *_ = folded(weight_OK, None, torch.tensor([-0.5]), torch.zeros(1))
    assert torch.equal(plus.weight, -minus.weight)
    assert torch.equal(plus.weight_scale, minus.weight_scale)


def test_a_channel_with_gain_zero_is_its_bias() -> None:
    layer, got, _ = folded(torch.randn(2, 3), None, torch.tensor([0.0, 1.0]), torch.tensor([0.75, 0.0]))
    assert not layer.weight[0].any()
    assert torch.allclose(got[:, 0], torch.full((8,), 0.75).double())


def test_a_channel_without_weights_keeps_its_bias() -> None:
    weight_OK = torch.stack([torch.zeros(3), torch.ones(3)])
    layer, got, expected = folded(weight_OK, torch.tensor([0.3, 0.3]), torch.ones(2), torch.zeros(2))
    assert close(got, expected, layer)
    assert torch.allclose(got[:, 0], expected[:, 0], rtol=1e-6)


def test_a_channel_of_nothing_is_zero() -> None:
    layer = integer_layer(torch.zeros(1, 3, dtype=torch.int8), torch.ones(1), None, None, INPUT_SCALE, 0)
    assert layer.bias.item() == 0
    assert torch.isfinite(layer.weight_scale).all()
    assert (layer.weight_scale > 0).all()


def test_a_huge_bias_widens_the_scale_instead_of_overflowing() -> None:
    weight_OK = torch.full((1, 3), 1e-7)
    layer, got, expected = folded(weight_OK, torch.tensor([5e4]), torch.ones(1), torch.zeros(1))
    assert layer.bias.abs().item() <= 2**30 + 2**8  # the scale is rounded to float32
    assert torch.allclose(got, expected, rtol=1e-6)
    narrow, _ = weight_integers(weight_OK)
    assert layer.weight.abs().max() < narrow.abs().max()
