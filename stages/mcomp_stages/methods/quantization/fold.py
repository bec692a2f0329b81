# O = output channels, K = the other axes of a weight
"""A layer in integers: batch norm folded exactly into the scales, the bias as int32."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mcomp_stages.methods.quantization.grid import spread

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
    """Weights (O, K) in steps from zero, their scales (O,), and the bias int32 (O,) with its scales (O,).

    `exact_bias` is the bias before it was rounded, for the comparison with the trained model.
    """

    weight: Tensor
    weight_scale: Tensor
    bias: Tensor
    bias_scale: Tensor
    exact_bias: Tensor


@dataclass(frozen=True)
class FloatLayer:
    """Weights in steps from zero, their scales, and the bias in float32."""

    weight: Tensor
    scale: Tensor
    bias: Tensor | None


def norm_affine(
    gamma: Tensor | None, beta: Tensor | None, mean: Tensor, variance: Tensor, epsilon: float
) -> Affine:
    """Return the affine map of a batch norm in inference mode."""
    deviation = (variance.double() + epsilon).sqrt()
    gain = 1 / deviation if gamma is None else gamma.detach().double() / deviation
    shift = -mean.double() * gain
    return Affine(gain, shift if beta is None else shift + beta.detach().double())


def integer_layer(
    steps: Tensor,
    scale_O: Tensor,
    bias_O: Tensor | None,
    affine: Affine | None,
    input_scale: Tensor,
    axis: int,
) -> IntegerLayer:
    """Fold `affine` into a layer of integer weights, in steps from zero; they change only by the gain's sign.

    A channel without weights, or with gain zero, is its bias. Where a bias would overflow its int32, the
    scale of that channel is widened and its integers are rounded again: they are small beside such a bias.
    """
    affine = affine or identity(scale_O)
    bias = affine.shift if bias_O is None else bias_O.detach().double() * affine.gain + affine.shift
    exact = scale_O.double() * affine.gain.abs()
    empty = (affine.gain == 0) | (steps.movedim(axis, 0).flatten(1) == 0).all(1)
    exact = torch.where(empty, bias.abs() / (input_scale.double() * BIAS_STEPS), exact)
    wide = torch.maximum(exact, bias.abs() / (input_scale.double() * LARGEST_BIAS))
    wide = torch.where(wide == 0, torch.ones_like(wide), wide)
    factor = torch.where(empty, torch.zeros_like(wide), affine.gain.sign() * exact / wide)
    weight = torch.round(steps * spread(factor, steps, axis)).to(torch.int16)
    weight_scale = wide.float()
    bias_scale = weight_scale * input_scale
    rounded_bias = torch.round(bias / bias_scale.double()).to(torch.int32)
    return IntegerLayer(weight, weight_scale, rounded_bias, bias_scale, bias.float())


def float_layer(
    steps: Tensor, scale: Tensor, bias_O: Tensor | None, affine: Affine | None, axis: int
) -> FloatLayer:
    """Fold `affine` into a layer whose integers are only how its weight is stored; exact but for float32.

    `scale` is one number, one for each channel, or (with as many axes as the weight) one for each group.
    """
    if affine is None:
        return FloatLayer(steps, scale, bias_O)
    gain = affine.gain if scale.ndim < 2 else spread(affine.gain, scale, axis)
    folded = scale.double() * gain.abs()
    bias = affine.shift if bias_O is None else bias_O.detach().double() * affine.gain + affine.shift
    turned = steps * spread(affine.gain.sign().to(steps.dtype), steps, axis)
    return FloatLayer(turned, torch.where(folded == 0, torch.ones_like(folded), folded).float(), bias.float())


def identity(scale_O: Tensor) -> Affine:
    """Return the map of a layer without a batch norm."""
    return Affine(torch.ones_like(scale_O).double(), torch.zeros_like(scale_O).double())
