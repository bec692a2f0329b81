"""Gradients rounded to few bits: DoReFa's formula number by number, and what a training notes of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from mcomp.training.config import Gradients, Training
from mcomp.training.gradients import RoundedGradients, rounded_gradient
from mcomp.training.loop import fit
from tests.mcomp.training.setting import label_loss, make_context, same, small_model, weights

NUMBERS = st.floats(-8, 8, width=32)


def slow_rounded(sample: list[float], noise: list[float], bits: int) -> list[float]:
    """Equation 12, number by number; the noise is in steps."""
    largest, levels = max(abs(each) for each in sample), 2**bits - 1
    if not largest:
        return [0.0] * len(sample)
    unit = [each / (2 * largest) + 0.5 + drawn / levels for each, drawn in zip(sample, noise, strict=True)]
    quantized = [min(max(round(levels * each), 0), levels) / levels for each in unit]
    return [2 * largest * (each - 0.5) for each in quantized]


@given(
    samples=st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=1, max_size=4),
    bits=st.sampled_from([2, 4, 8]),
    seed=st.integers(0, 99),
)
def test_every_sample_is_rounded_as_by_hand(samples: list[list[float]], bits: int, seed: int) -> None:
    gradient = torch.tensor(samples, dtype=torch.float64)
    noise = (
        torch.rand(gradient.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.5
    )
    expected = [slow_rounded(*pair, bits) for pair in zip(samples, noise.tolist(), strict=True)]
    rounded = rounded_gradient(gradient, bits, noise)
    step = 2 * gradient.abs().amax(1, keepdim=True) / (2**bits - 1)
    off = (rounded - torch.tensor(expected, dtype=torch.float64)).abs()
    assert (off <= 1e-9 + 1.001 * step * near_tie(gradient, noise, bits)).all()


def near_tie(gradient: torch.Tensor, noise: torch.Tensor, bits: int) -> torch.Tensor:
    """Where the two orders of arithmetic may round to either side."""
    largest = gradient.abs().amax(1, keepdim=True).clamp(min=1e-300)
    steps = (gradient / largest + 1) * (2**bits - 1) / 2 + noise
    return ((steps - steps.floor() - 0.5).abs() < 1e-9).double()


def test_noise_makes_rounding_right_on_average() -> None:
    torch.manual_seed(0)
    gradient = torch.tensor([[1.0, 0.3, -0.05, 0.0]]).repeat(20_000, 1)
    mean = rounded_gradient(gradient, 2, torch.rand_like(gradient) - 0.5).mean(0)
    assert (mean - gradient[0]).abs().max() < 0.015
    nearest = rounded_gradient(gradient, 2, 0.0)[0]
    assert torch.allclose(nearest, torch.tensor([1.0, 1 / 3, -1 / 3, 1 / 3]))


def test_each_sample_has_a_scale_of_its_own() -> None:
    rounded = rounded_gradient(torch.tensor([[1.0, -0.4], [100.0, -40.0], [0.0, 0.0]]), 8, 0.0)
    assert torch.allclose(rounded[1], 100 * rounded[0])
    assert torch.equal(rounded[2].abs() < 1e-30, torch.tensor([True, True]))


@pytest.mark.parametrize("product", [nn.Conv2d(3, 4, 3), nn.Linear(6, 4)])
def test_what_a_layer_gets_back_lies_on_the_grid(product: nn.Module) -> None:
    mode = RoundedGradients(Gradients(bits=2, rounding="nearest"))
    x = torch.randn(5, 3, 6, 6, requires_grad=True)
    with mode:
        output = product(x)
    got: list[torch.Tensor] = []
    output.register_hook(got.append)
    torch.relu_(output).square().sum().backward()
    levels = got[0].flatten(1) / got[0].flatten(1).abs().amax(1, keepdim=True)
    assert all(min(abs(each - level) for level in (-1, -1 / 3, 1 / 3, 1)) < 1e-5 for each in levels.flatten())
    signal, error = mode.take_sums()
    assert signal > 0
    assert error > 0
    assert mode.take_sums() == (0.0, 0.0)


def trained(gradients: Gradients | None, **training: Any) -> Any:
    config = Training(epochs=2, gradients=gradients, **training)
    return fit(small_model(), config, make_context(), label="train", loss=label_loss)


def test_the_history_tells_how_far_gradients_were_moved() -> None:
    errors = {
        bits: [epoch.gradient_error for epoch in trained(Gradients(bits=bits)).history] for bits in (2, 4, 8)
    }
    assert all(few > more > 0 for few, more in zip(errors[2], errors[4], strict=True))
    assert all(few > more > 0 for few, more in zip(errors[4], errors[8], strict=True))
    assert [epoch.gradient_error for epoch in trained(None).history] == [None, None]


def test_rounding_changes_the_result_and_repeats_with_the_seed() -> None:
    first, second = (weights(trained(Gradients(bits=4)).model) for _ in range(2))
    assert same(first, second)
    assert not same(first, weights(trained(None).model))


@pytest.mark.parametrize("wrong", [{"bits": 1}, {"bits": 9}, {"rounding": "down"}])
def test_what_no_grid_has_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Gradients.model_validate(wrong)
