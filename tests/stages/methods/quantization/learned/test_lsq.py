"""LSQ and LSQ+ against the papers' formulas, value by value."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mcomp_stages.methods.quantization.config import Activations
from mcomp_stages.methods.quantization.learned.lsq import (
    LearnedActivation,
    LearnedWeight,
    OffsetActivation,
)
from mcomp_stages.methods.quantization.observers.observer import Range
from mcomp_stages.methods.quantization.sites import WeightSite

VALUES = st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=12)
BITS = st.sampled_from([2, 3, 4, 8])


def slow_lsq(values: list[float], step: float, low: int, high: int) -> tuple[list[float], list[float], float]:
    """Equations 1 to 3: what values are rounded to, what of their gradient passes, the step's gradient."""
    rounded, passing, of_step = [], [], 0.0
    for value in values:
        position = value / step
        rounded.append(round(min(max(position, low), high)) * step)
        passing.append(float(low < position < high))
        if position <= low:
            of_step += low
        elif position >= high:
            of_step += high
        else:
            of_step += round(position) - position
    return rounded, passing, of_step


def ready(kind: type[LearnedActivation], bits: int, low: float, high: float) -> LearnedActivation:
    quantizer = kind(Activations.model_validate({"bits": bits}))
    quantizer.set_range((torch.tensor(low), torch.tensor(high)), num_batches=1)
    return quantizer


def safe(values: list[float], step: float) -> bool:
    """Whether no value lies where float32 and Python's floats may round to different sides."""
    halves = [2 * value / step for value in values if value]
    return all(abs(each - round(each)) > 1e-3 for each in halves)


@given(values=VALUES, bits=BITS, high=st.floats(0.5, 3, width=32), low=st.sampled_from([0.0, -1.0]))
def test_activations_and_their_step_get_the_gradients_of_the_paper(
    values: list[float], bits: int, high: float, low: float
) -> None:
    quantizer = ready(LearnedActivation, bits, low, high)
    step, (lowest, highest) = quantizer.scale.item(), quantizer.ends()
    if not safe(values, step):
        return
    x = torch.tensor([values], requires_grad=True)
    output = quantizer(x)
    output.sum().backward()
    rounded, passing, of_step = slow_lsq(values, step, lowest, highest)
    assert torch.allclose(output[0], torch.tensor(rounded), atol=1e-5)
    assert x.grad is not None
    assert x.grad[0].tolist() == passing
    gain = 1 / math.sqrt(len(values) * max(highest, -lowest))
    assert quantizer.scale.grad is not None
    assert quantizer.scale.grad.item() == pytest.approx(of_step * gain, abs=2e-3 * gain * len(values))


@given(values=st.lists(st.floats(-4, 4, width=32), min_size=6, max_size=6), bits=BITS)
def test_weights_have_a_step_for_each_channel(values: list[float], bits: int) -> None:
    site = WeightSite.model_validate({"bits": bits, "scale": "stored"})
    state = {"scale": torch.tensor([0.37, 0.9]), "zero_point": torch.zeros(2, dtype=torch.int8)}
    if not all(safe(values, step) for step in (0.37, 0.9)):
        return
    quantizer, weight = LearnedWeight(site, state), torch.tensor(values).reshape(2, 3).requires_grad_()
    output = quantizer(weight)
    output.sum().backward()
    highest = 2 ** (bits - 1) - 1
    assert weight.grad is not None
    assert quantizer.scale.grad is not None
    for channel, step in enumerate((0.37, 0.9)):
        row = values[3 * channel : 3 * channel + 3]
        rounded, passing, of_step = slow_lsq(row, step, -highest, highest)
        assert torch.allclose(output[channel], torch.tensor(rounded), atol=1e-5)
        assert weight.grad[channel].tolist() == passing
        assert quantizer.scale.grad[channel].item() == pytest.approx(
            of_step / math.sqrt(3 * highest), abs=1e-4
        )
    integers, scale, _ = quantizer.integers(weight)
    assert torch.equal(integers * scale[:, None], output)


def slow_offset(values: list[float], step: float, top: int, zero: int) -> tuple[float, float]:
    """Equations 4 and 5 for levels 0 to `top`: the gradients of the step and of the offset."""
    of_step = of_offset = 0.0
    for value in values:
        position = value / step + zero
        if position <= 0:
            of_offset += 1
        elif position >= top:
            of_step += top
            of_offset += 1
        else:
            of_step += round(position) - position
    return of_step, of_offset


@given(values=VALUES, bits=BITS, low=st.sampled_from([0.0, -0.7, -2.0]))
def test_offsets_get_the_gradients_of_the_paper(values: list[float], bits: int, low: float) -> None:
    quantizer = ready(OffsetActivation, bits, low, 2.0)
    assert isinstance(quantizer, OffsetActivation)
    step, zero = quantizer.scale.item(), int(quantizer.grid()[1])
    if not safe(values, step):
        return
    quantizer(torch.tensor([values])).sum().backward()
    of_step, of_offset = slow_offset(values, step, 2**bits - 1, zero)
    lowest, highest = quantizer.ends()
    gain = 1 / math.sqrt(len(values) * max(highest, -lowest))
    assert quantizer.scale.grad is not None
    assert quantizer.offset.grad is not None
    assert quantizer.scale.grad.item() == pytest.approx(of_step * gain, abs=2e-3 * gain * len(values))
    assert quantizer.offset.grad.item() == pytest.approx(of_offset * gain, rel=1e-4)


@pytest.mark.parametrize("kind", [LearnedActivation, OffsetActivation])
def test_the_step_moves_as_finite_differences_say_where_all_is_clipped(kind: type[LearnedActivation]) -> None:
    x = torch.full((1, 5), 9.0)
    quantizer = ready(kind, 4, 0.0, 2.0)
    quantizer(x).sum().backward()
    with torch.no_grad():
        before = quantizer(x).sum()
        quantizer.scale.add_(1e-3)
        moved = (quantizer(x).sum() - before) / 1e-3
    gain = 1 / math.sqrt(5 * 15)
    assert quantizer.scale.grad is not None
    assert quantizer.scale.grad.item() == pytest.approx(moved.item() * gain, rel=1e-3)


def test_an_offset_lets_zero_be_zero() -> None:
    quantizer = ready(OffsetActivation, 4, -1.3, 2.0)
    assert isinstance(quantizer, OffsetActivation)
    with torch.no_grad():
        quantizer.offset.add_(0.07)
    assert quantizer(torch.zeros(1, 3)).abs().max() == 0


def test_a_range_becomes_a_step_and_a_zero_point() -> None:
    found: Range = (torch.tensor(-1.0), torch.tensor(2.0))
    for kind in (LearnedActivation, OffsetActivation):
        quantizer = kind(Activations(bits=4))
        quantizer.set_range(found, num_batches=3)
        scale, zero_point = quantizer.grid()
        assert (scale.item(), int(zero_point), int(quantizer.seen)) == (pytest.approx(0.2), 5, 3)
