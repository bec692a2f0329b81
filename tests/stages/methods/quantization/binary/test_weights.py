"""Binary and ternary weights against the papers' formulas, value by value."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mcomp_stages.methods.quantization.binary.weights import BinaryWeight, TernaryWeight
from mcomp_stages.methods.quantization.sites import WeightSite

ROWS = st.lists(st.lists(st.floats(-2, 2, width=32), min_size=4, max_size=4), min_size=1, max_size=3)


def slow_xnor(row: list[float]) -> tuple[list[float], list[float]]:
    """Equations 6 and 8: alpha sign(w), and what is multiplied with the gradient."""
    alpha = max(sum(abs(each) for each in row) / len(row), 1e-12)
    rounded = [alpha if each >= 0 else -alpha for each in row]
    return rounded, [1 / len(row) + (alpha if abs(each) <= 1 else 0) for each in row]


def slow_twn(row: list[float]) -> list[float]:
    """Equations 5 and 6: the scale is the mean of what is above 0.7 of the mean."""
    threshold = 0.7 * sum(abs(each) for each in row) / len(row)
    large = [abs(each) for each in row if abs(each) > threshold]
    alpha = sum(large) / len(large) if large else 0.0
    return [alpha * (1 if each > 0 else -1) if abs(each) > threshold else 0.0 for each in row]


@given(rows=ROWS)
def test_binary_weights_are_those_of_xnor_net(rows: list[list[float]]) -> None:
    weight, quantizer = torch.tensor(rows, requires_grad=True), BinaryWeight(WeightSite(bits=1))
    output = quantizer(weight)
    output.sum().backward()
    expected = [slow_xnor(row) for row in rows]
    assert torch.allclose(output, torch.tensor([rounded for rounded, _ in expected]), atol=1e-6)
    assert weight.grad is not None
    assert torch.allclose(weight.grad, torch.tensor([factor for _, factor in expected]), atol=1e-6)
    integers, scale, _ = quantizer.integers(weight)
    assert torch.equal(integers * scale[:, None], output)
    assert integers.abs().min() == 1


@given(rows=ROWS)
def test_ternary_weights_are_those_of_the_paper(rows: list[list[float]]) -> None:
    weight, quantizer = torch.tensor(rows, requires_grad=True), TernaryWeight(WeightSite(bits=2))
    thresholds = [0.7 * sum(abs(each) for each in row) / len(row) for row in rows]
    if any(
        abs(abs(each) - top) < 1e-5 for row, top in zip(rows, thresholds, strict=True) for each in row if top
    ):
        return
    output = quantizer(weight)
    output.sum().backward()
    assert torch.allclose(output, torch.tensor([slow_twn(row) for row in rows]), atol=1e-6)
    assert weight.grad is not None
    assert (weight.grad == 1).all()
    integers, scale, _ = quantizer.integers(weight)
    assert torch.equal(integers * scale[:, None], output)


def test_pruned_weights_stay_zero_in_three_values() -> None:
    weight = torch.tensor([[0.0, 1.0, -1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert not TernaryWeight(WeightSite(bits=2))(weight)[weight == 0].any()


@pytest.mark.parametrize(("kind", "bits"), [(BinaryWeight, 1), (TernaryWeight, 2)])
def test_scales_lie_along_the_axis_of_the_output_channels(kind: type[BinaryWeight], bits: int) -> None:
    weight = torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    site = WeightSite.model_validate({"bits": bits, "axis": 1})
    turned = kind(WeightSite.model_validate({"bits": bits}))(weight.transpose(0, 1))
    assert torch.allclose(kind(site)(weight), turned.transpose(0, 1))
