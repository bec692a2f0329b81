"""How much of a signal rounding took away, in decibels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mcomp.measure.accuracy import in_inference_mode

LARGEST_DB = 140.0  # what float32 itself rounds away: beyond it two tensors count as equal


def sqnr_db(expected: Tensor, actual: Tensor) -> float:
    """Return the power of `expected` over that of what `actual` differs by, in dB, at most 140.

    A difference that is not finite counts as all of the signal and more: minus infinity. Two that are zero
    everywhere are equal.
    """
    signal = expected.double().square().sum().item()
    noise = (actual.double() - expected.double()).square().sum().item()
    if not math.isfinite(noise):
        return -math.inf
    if noise <= signal * 10 ** (-LARGEST_DB / 10):
        return LARGEST_DB
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def outputs(module: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> list[Tensor]:
    """Return what a module gives in inference mode, batch by batch."""
    with in_inference_mode(module), torch.no_grad():
        return [module(**inputs) for inputs in batches]


def outputs_sqnr_db(expected: Sequence[Tensor], actual: Sequence[Tensor]) -> float:
    """Return the SQNR over all batches; their shapes may differ from batch to batch."""
    flat = (torch.cat([each.flatten() for each in side]) for side in (expected, actual))
    return sqnr_db(*flat)
