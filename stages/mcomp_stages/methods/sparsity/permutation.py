# R = rows of all the layers that read some channels, C = channels, n of every m are kept
"""An order of channels in which an N:M pattern costs less.

Source: Pool & Yu 2021, Channel Permutations for N:M Sparsity (NeurIPS; the greedy phase of algorithm 2: the
best swap of two columns, until none helps). Differs: no random escapes from a local optimum.
"""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST_GAIN = 1e-6  # of all the magnitude: below it a swap is rounding
LARGEST_PIECE = 2**24  # numbers at once


def kept_magnitude(score_RC: Tensor, n: int, m: int) -> float:
    """Return the sum of the n highest scores in every m neighbours."""
    return float(score_RC.view(len(score_RC), -1, m).topk(n, dim=-1).values.sum())


def best_order(score_RC: Tensor, n: int, m: int) -> Tensor:
    """Return the order (C,) of the columns that the best swaps lead to; as they are if no swap helps.

    Scores are not negative. Every swap takes R * C numbers, the first table R * C * C.
    """
    num_columns = score_RC.shape[1]
    order, scores = torch.arange(num_columns), score_RC.double()
    smallest = SMALLEST_GAIN * float(scores.sum())
    joined_CC = torch.stack([joined(scores, order, place, n, m) for place in range(num_columns)])
    for _ in range(num_columns * num_columns):
        gain_CC = swap_gains(scores, order, joined_CC, n, m)
        best = int(gain_CC.argmax())
        left, right = divmod(best, num_columns)
        if float(gain_CC[left, right]) <= smallest:
            break
        order[[left, right]] = order[[right, left]]
        joined_CC[:, [left, right]] = joined_CC[:, [right, left]]
        for place in [*group_of(left, m), *group_of(right, m)]:
            joined_CC[place] = joined(scores, order, place, n, m)
    return order


def group_of(place: int, m: int) -> range:
    """Return the places of the neighbours of a place, itself among them."""
    start = place - place % m
    return range(start, start + m)


def joined(scores_RC: Tensor, order: Tensor, place: int, n: int, m: int) -> Tensor:
    """Return what the group of a place would keep if another column stood there, for each place's (C,)."""
    others = [other for other in group_of(place, m) if other != place]
    highest = scores_RC[:, order[others]].topk(n, dim=-1).values
    above, last = highest[:, :-1].sum(), highest[:, -1:]
    pieces = torch.split(order, max(1, LARGEST_PIECE // len(scores_RC)))
    return torch.cat([above + scores_RC[:, piece].maximum(last).sum(0) for piece in pieces])


def swap_gains(scores_RC: Tensor, order: Tensor, joined_CC: Tensor, n: int, m: int) -> Tensor:
    """Return what a swap of two places would add (C, C); nothing within a group."""
    kept_C = joined_CC.diagonal()
    gain_CC = joined_CC + joined_CC.mT - kept_C[:, None] - kept_C[None, :]
    group_C = torch.arange(len(order)) // m
    return gain_CC.masked_fill(group_C[:, None] == group_C[None, :], -torch.inf).triu()
