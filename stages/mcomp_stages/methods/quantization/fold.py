# O = output channels, K = the other axes of a weight
"""A layer in integers: batch norm folded exactly into the scales, the bias as int32."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mcomp_stages.methods.quantization.operators import along

# The runtime adds the bias to an int32 sum of products: half of the range is left for the sum, which stays
# below it up to 33,000 inputs per output (255 * 127 * inputs).
LARGEST_BIAS = 2**30
# Steps that a bias gets when its channel has no weights to give it a scale: exact to float32.
BIAS_STEPS = 2**24


@dataclass(frozen=True)
class Affine:
    """What batch norm does to each channel in inference: `gain` times the value plus `shift`, in float64."""

    gain: Tensor
    shift: Tensor


@dataclass(frozen=True)
class IntegerLayer:
    """Weights int8 (O, K), their scales (O,), and the bias int32 (O,) with its scales (O,).

    `exact_bias` is the bias before it was rounded, for the comparison with the trained model.
    """

    weight: Tensor
    weight_scale: Tensor
    bias: Tensor
    bias_scale: Tensor
    exact_bias: Tensor


def norm_affine(
    gamma: Tensor | None, beta: Tensor | None, mean: Tensor, variance: Tensor, epsilon: float
) -> Affine:
    """Return the affine map of a batch norm in inference mode."""
    deviation = (variance.double() + epsilon).sqrt()
    gain = 1 / deviation if gamma is None else gamma.detach().double() / deviation
    shift = -mean.double() * gain
    return Affine(gain, shift if beta is None else shift + beta.detach().double())


def integer_layer(
    weight_OK: Tensor, scale_O: Tensor, bias_O: Tensor | None, affine: Affine | None, input_scale: Tensor
) -> IntegerLayer:
    """Fold `affine` into a layer of int8 weights; the integers change only by the sign of the gain.

    A channel without weights, or with gain zero, is its bias. Where a bias would overflow its int32, the
    scale of that channel is widened and its integers are rounded again: they are small beside such a bias.
    """
    affine = affine or Affine(torch.ones_like(scale_O).double(), torch.zeros_like(scale_O).double())
    bias = affine.shift if bias_O is None else bias_O.detach().double() * affine.gain + affine.shift
    exact = scale_O.double() * affine.gain.abs()
    empty = (affine.gain == 0) | (weight_OK.flatten(1) == 0).all(1)
    exact = torch.where(empty, bias.abs() / (input_scale.double() * BIAS_STEPS), exact)
    wide = torch.maximum(exact, bias.abs() / (input_scale.double() * LARGEST_BIAS))
    wide = torch.where(wide == 0, torch.ones_like(wide), wide)
    factor = torch.where(empty, torch.zeros_like(wide), affine.gain.sign() * exact / wide)
    weight = torch.round(weight_OK * along(factor, weight_OK, 0)).to(torch.int8)
    weight_scale = wide.float()
    bias_scale = weight_scale * input_scale
    rounded_bias = torch.round(bias / bias_scale.double()).to(torch.int32)
    return IntegerLayer(weight, weight_scale, rounded_bias, bias_scale, bias.float())
