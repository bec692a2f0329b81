"""PACT against its formulas."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mcomp_stages.methods.quantization.config import Activations
from mcomp_stages.methods.quantization.learned.pact import ClippedActivation

VALUES = st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=12)


def ready(bits: int, low: float, high: float) -> ClippedActivation:
    quantizer = ClippedActivation(Activations.model_validate({"bits": bits}))
    quantizer.set_range((torch.tensor(low), torch.tensor(high)), num_batches=1)
    return quantizer


def slow_pact(values: list[float], alpha: float, bits: int) -> tuple[list[float], float]:
    """Equations 1 to 3: 0.5 (|x| - |x - alpha| + alpha) rounded to steps of alpha / (2**k - 1)."""
    levels = 2**bits - 1
    clipped = [0.5 * (abs(x) - abs(x - alpha) + alpha) for x in values]
    return [round(y * levels / alpha) * alpha / levels for y in clipped], sum(x >= alpha for x in values)


@given(values=VALUES, bits=st.sampled_from([2, 4, 8]))
def test_values_and_the_clipping_level_are_those_of_the_paper(values: list[float], bits: int) -> None:
    quantizer = ready(bits, 0.0, 1.7)
    alpha = quantizer.alpha.item()
    ties = [abs(x * (2**bits - 1) / alpha % 1 - 0.5) < 1e-4 or abs(abs(x) - alpha) < 1e-4 for x in values]
    if any(ties):
        return
    x = torch.tensor(values, requires_grad=True)
    output = quantizer(x)
    output.sum().backward()
    rounded, of_alpha = slow_pact(values, alpha, bits)
    assert torch.allclose(output, torch.tensor(rounded), atol=1e-5)
    assert quantizer.alpha.grad is not None
    assert x.grad is not None
    assert quantizer.alpha.grad.item() == pytest.approx(of_alpha)
    assert x.grad.tolist() == [float(0 < each < alpha) for each in values]


def test_both_ends_of_a_grid_with_negative_values_move_with_alpha() -> None:
    quantizer, x = ready(4, -1.0, 2.0), torch.tensor([-9.0, 9.0, 9.0, 0.1])
    quantizer(x).sum().backward()
    with torch.no_grad():
        before = quantizer(x[:3]).sum()
        quantizer.alpha.add_(1e-3)
        moved = (quantizer(x[:3]).sum() - before) / 1e-3
    assert quantizer.alpha.grad is not None
    assert quantizer.alpha.grad.item() == pytest.approx(moved.item(), rel=1e-3)
