# U = units
"""Which units become zero: those with the lowest scores, until a share of the weights is."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def lowest(score_U: Tensor, size_U: Tensor, share: float) -> Tensor:
    """Return which units (U,) go: the lowest scores that together hold the share of all weights, or nearest.

    Equal scores go in the order of the units. At least one unit goes and one stays.
    """
    order = score_U.argsort(stable=True)
    total = size_U[order].cumsum(0)
    wanted = share * float(total[-1])
    number = int(torch.searchsorted(total.double(), wanted))
    before = float(total[number - 1]) if number else 0.0
    if number < len(total) and abs(float(total[number]) - wanted) < abs(before - wanted):
        number += 1
    number = min(max(number, 1), len(total) - 1)
    gone = torch.zeros_like(order, dtype=torch.bool)
    gone[order[:number]] = True
    return gone


def lowest_in_all(
    scores: Mapping[str, Tensor], unit_sizes: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """Return which units of each weight go when all are compared with all.

    The best unit of each weight stays: a layer of zeros would end the network.
    """
    kept = [score.index_fill(0, score.argmax(), torch.inf) for score in scores.values()]
    together = lowest(torch.cat(kept), torch.cat(list(unit_sizes.values())), share)
    parts = torch.split(together, [len(score) for score in scores.values()])
    return dict(zip(scores, parts, strict=True))


def lowest_in_each(
    scores: Mapping[str, Tensor], unit_sizes: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """Return which units of each weight go when every weight loses the same share."""
    return {name: lowest(score, unit_sizes[name], share) for name, score in scores.items()}


CHOICES = {"global": lowest_in_all, "layer": lowest_in_each}
