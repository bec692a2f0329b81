# O = rows of a weight, K = its columns
"""Activation-aware scaling: columns whose inputs are large are stored larger, so that they are rounded finer.

W x = (W diag(s)) (x / s). With s = rms(x) ** alpha the error moves from the inputs that matter to those that
do not; alpha is searched, layer by layer, for the smallest error of the layer's output.

Source: Lin et al. 2023, arXiv:2306.00978, equation 4.
Differs: the size of an input is its root mean square and the error is exact over all samples, both read off
the layer's Hessian; layers that read one input share one s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mcomp_stages.methods.layer_hessian import output_error
from mcomp_stages.methods.quantization.weights.grid import Fit, IntegerWeight, Width
from mcomp_stages.methods.quantization.weights.round_to_nearest import round_to_nearest

ALPHAS = tuple(step / 20 for step in range(20))


@dataclass(frozen=True)
class ScaledWeights:
    """Integers of the weights times `input_scale` (K,), which the input must be divided by."""

    weights: tuple[IntegerWeight, ...]
    input_scale: Tensor
    alpha: float


def activation_aware(
    weights_OK: Sequence[Tensor], hessian_KK: Tensor, widths: Sequence[Width], fit: Fit
) -> ScaledWeights:
    """Return the integers of layers that read one input, with the scale that costs their outputs least."""
    tried = [scaled(weights_OK, hessian_KK, alpha, widths, fit) for alpha in ALPHAS]
    errors = [total_error(weights_OK, each, hessian_KK) for each in tried]
    return tried[min(range(len(tried)), key=errors.__getitem__)]


def scaled(
    weights_OK: Sequence[Tensor], hessian_KK: Tensor, alpha: float, widths: Sequence[Width], fit: Fit
) -> ScaledWeights:
    """Return the integers for one alpha."""
    scale_K = scale_of_inputs(hessian_KK, alpha).to(weights_OK[0].dtype)
    integers = tuple(
        round_to_nearest(weight_OK * scale_K, width, fit)
        for weight_OK, width in zip(weights_OK, widths, strict=True)
    )
    return ScaledWeights(integers, scale_K, alpha)


def scale_of_inputs(hessian_KK: Tensor, alpha: float) -> Tensor:
    """Return s (K,), its largest and smallest entries each other's inverse; 1 where an input is always 0."""
    size_K = (hessian_KK.diagonal() / 2).sqrt()
    live = size_K > 0
    scale_K = torch.where(live, size_K, torch.ones_like(size_K)).pow(alpha)
    middle = (scale_K[live].max() * scale_K[live].min()).sqrt() if live.any() else 1.0
    return torch.where(live, scale_K / middle, torch.ones_like(scale_K))


def total_error(weights_OK: Sequence[Tensor], tried: ScaledWeights, hessian_KK: Tensor) -> float:
    """Return the mean squared change of all the layers' outputs."""
    return sum(
        output_error(integers.numbers() / tried.input_scale - weight_OK, hessian_KK)
        for weight_OK, integers in zip(weights_OK, tried.weights, strict=True)
    )
