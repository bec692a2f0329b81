"""DoReFa-Net's weights and activations against its formulas."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mcomp_stages.methods.quantization.config import Activations
from mcomp_stages.methods.quantization.learned.dorefa import TanhWeight, UnitActivation, squashed
from mcomp_stages.methods.quantization.sites import WeightSite

VALUES = st.lists(st.floats(-3, 3, width=32), min_size=6, max_size=6)


@given(values=VALUES, bits=st.sampled_from([2, 4, 8]))
def test_weights_are_rounded_as_one_by_one(values: list[float], bits: int) -> None:
    highest = 2 ** (bits - 1) - 1
    largest = max(abs(value) for value in values)
    if largest < 1e-3:
        return
    units = [math.tanh(value) / math.tanh(largest) for value in values]
    if any(abs(abs(unit) * highest % 1 - 0.5) < 1e-4 for unit in units):
        return
    expected = [round(unit * highest) * largest / highest for unit in units]
    quantizer = TanhWeight(WeightSite.model_validate({"bits": bits, "per": "tensor"}))
    weight = torch.tensor(values).reshape(2, 3)
    assert torch.allclose(quantizer(weight).flatten(), torch.tensor(expected), atol=1e-5)
    integers, scale, _ = quantizer.integers(weight)
    assert torch.equal(integers * scale, quantizer(weight))


def test_the_way_back_is_that_of_the_unrounded_weight() -> None:
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(2, 5, generator=draw, dtype=torch.float64).requires_grad_()
    site = WeightSite(bits=3)
    assert torch.autograd.gradcheck(lambda each: squashed(each, site), (weight,))
    quantizer = TanhWeight(site)
    (quantizer(weight) / quantizer.grid(weight)[0][:, None]).sum().backward()
    (expected,) = torch.autograd.grad(3 * squashed(weight, site).sum(), weight)
    assert weight.grad is not None
    assert torch.allclose(weight.grad, expected, rtol=1e-4)


def test_weights_of_zero_stay_zero() -> None:
    weight = torch.tensor([[0.0, 0.5, -2.0], [0.0, 0.0, 0.0]])
    rounded = TanhWeight(WeightSite(bits=2))(weight)
    assert not rounded[weight == 0].any()


@given(values=VALUES, bits=st.sampled_from([2, 4, 8]))
def test_activations_are_cut_at_one(values: list[float], bits: int) -> None:
    quantizer = UnitActivation(Activations.model_validate({"bits": bits}))
    quantizer.set_range((torch.tensor(0.0), torch.tensor(5.0)), num_batches=1)
    levels = 2**bits - 1
    if any(abs(value * levels % 1 - 0.5) < 1e-4 for value in values):
        return
    expected = [round(min(max(value, 0.0), 1.0) * levels) / levels for value in values]
    assert torch.allclose(quantizer(torch.tensor(values)), torch.tensor(expected), atol=1e-6)


def test_activations_of_both_signs_are_cut_at_minus_one_too() -> None:
    quantizer = UnitActivation(Activations(bits=4))
    quantizer.set_range((torch.tensor(-0.1), torch.tensor(5.0)), num_batches=1)
    x = torch.tensor([-9.0, -1.0, 0.0, 1.0, 9.0], requires_grad=True)
    output = quantizer(x)
    assert output.tolist() == [pytest.approx(each) for each in (-8 / 7, -1, 0, 1, 1)]
    output.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 1, 0]
