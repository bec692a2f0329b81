"""How much of a signal rounding took away, in decibels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mcomp.measure.accuracy import in_inference_mode

LARGEST_DB = 140.0  # what float32 itself rounds away: beyond it two tensors count as equal


def sqnr_db(expected: Tensor, actual: Tensor) -> float:
    """Return the power of `expected` over that of what `actual` differs by, in dB, from -140 to 140.

    A difference that is not finite, or where there is no signal, is the worst. Two that are zero everywhere
    are equal.
    """
    signal = expected.double().square().sum().item()
    noise = (actual.double() - expected.double()).square().sum().item()
    if not math.isfinite(noise) or (signal == 0 and noise > 0):
        return -LARGEST_DB
    if noise <= signal * 10 ** (-LARGEST_DB / 10):
        return LARGEST_DB
    return max(10 * math.log10(signal / noise), -LARGEST_DB)


def outputs(module: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> list[Tensor]:
    """Return what a module gives in inference mode, batch by batch."""
    with in_inference_mode(module), torch.no_grad():
        return [module(**inputs) for inputs in batches]


def outputs_sqnr_db(expected: Sequence[Tensor], actual: Sequence[Tensor]) -> float:
    """Return the SQNR over all batches; their shapes may differ from batch to batch."""
    flat = (torch.cat([each.flatten() for each in side]) for side in (expected, actual))
    return sqnr_db(*flat)
