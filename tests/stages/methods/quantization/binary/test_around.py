"""Signs with thresholds, and RPReLU."""

from __future__ import annotations

import pytest
import torch

from mcomp_stages.methods.quantization.binary.around import ShiftedPReLU, SignInput


def test_signs_are_taken_from_the_threshold_of_each_channel() -> None:
    sign = SignInput({"threshold": torch.tensor([0.0, 0.5])})
    x = torch.tensor([[0.4, 0.4], [-0.1, 0.5]])
    for training in (True, False):
        assert sign.train(training)(x).tolist() == [[1, -1], [-1, 1]]


def test_the_gradient_is_that_of_bi_real_net() -> None:
    sign, x = SignInput(SignInput.fresh(1)), torch.linspace(-1.5, 1.5, 13)[:, None].requires_grad_()
    sign(x).sum().backward()
    slow = [2 + 2 * v if -1 <= v < 0 else 2 - 2 * v if 0 <= v < 1 else 0 for v in x.flatten().tolist()]
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [pytest.approx(each, abs=1e-6) for each in slow]
    assert sign.threshold.grad is not None
    assert sign.threshold.grad.item() == pytest.approx(-sum(slow), abs=1e-5)


def test_rprelu_bends_and_shifts_each_channel() -> None:
    state = {
        "before": torch.tensor([1.0, 0.0]),
        "slope": torch.tensor([0.5, 0.1]),
        "after": torch.tensor([3.0, -1.0]),
    }
    bent = ShiftedPReLU(state)(torch.tensor([[[2.0]], [[-2.0]]])[None])
    assert bent.flatten().tolist() == [pytest.approx(1 + 3), pytest.approx(-0.2 - 1)]
    start = ShiftedPReLU(ShiftedPReLU.fresh(2)).double()
    x = torch.randn(
        3, 2, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True
    )
    assert torch.autograd.gradcheck(start, (x,))
