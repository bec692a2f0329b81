"""Activation-aware scaling: never worse than rounding, better with an outlier channel."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mcomp_stages.methods.layer_hessian import output_error
from mcomp_stages.methods.quantization.weights.awq import ALPHAS, activation_aware, scale_of_inputs, scaled
from mcomp_stages.methods.quantization.weights.grid import Width, extremes
from mcomp_stages.methods.quantization.weights.round_to_nearest import round_to_nearest
from tests.stages.methods.quantization.weights.samples import correlated_hessian, random_weight

WIDTH = Width(3, 16)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10**6), outlier=st.sampled_from([1.0, 20.0]))
def test_the_chosen_scale_is_the_best_of_all_tried(seed: int, outlier: float) -> None:
    weights = [random_weight(8, 32, seed), random_weight(4, 32, seed + 1)]
    hessian = correlated_hessian(32, seed, outlier)
    chosen = activation_aware(weights, hessian, [WIDTH] * 2, extremes)
    errors = {}
    for alpha in ALPHAS:
        scale = scale_of_inputs(hessian, alpha).float()
        errors[alpha] = sum(
            output_error(round_to_nearest(w * scale, WIDTH, extremes).numbers() / scale - w, hessian)
            for w in weights
        )
    assert chosen.alpha == min(errors, key=errors.__getitem__)


def test_an_outlier_channel_is_rounded_finer() -> None:
    weight, hessian = random_weight(16, 32, seed=0), correlated_hessian(32, seed=1, outlier=20)
    chosen = activation_aware([weight], hessian, [WIDTH], extremes)
    nearest = round_to_nearest(weight, WIDTH, extremes).numbers() - weight
    aware = chosen.weights[0].numbers() / chosen.input_scale - weight
    assert chosen.alpha > 0
    assert aware[:, 0].square().sum() < 0.5 * nearest[:, 0].square().sum()
    assert output_error(aware, hessian) < 0.7 * output_error(nearest, hessian)


def test_alpha_zero_is_rounding_to_nearest() -> None:
    weight, hessian = random_weight(4, 32, seed=2), correlated_hessian(32, seed=3)
    plain = scaled([weight], hessian, 0.0, [WIDTH], extremes)
    assert torch.equal(plain.input_scale, torch.ones(32))
    assert torch.equal(plain.weights[0].codes, round_to_nearest(weight, WIDTH, extremes).codes)


def test_an_input_that_is_always_zero_is_not_scaled() -> None:
    hessian = correlated_hessian(8, seed=4)
    hessian[2] = hessian[:, 2] = 0
    scale = scale_of_inputs(hessian, 0.5)
    assert scale[2] == 1
    assert (scale > 0).all()
    torch.testing.assert_close(scale.max() * scale[scale != 1].min(), torch.tensor(1.0).double())
