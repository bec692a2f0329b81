# O = rows of a weight, K = its columns, R = columns left in a block
"""Which weights of a layer can go, by what its outputs lose; and what the others can do about it.

A layer's outputs change by 1/2 dw^T H dw for every row of its weight (`layer_hessian`). Sources: the diagonal
alone, LeCun et al. 1990 (Optimal Brain Damage, equation 5); weights beside inputs, Sun et al. 2023,
arXiv:2306.11695 (Wanda, equation 1: the same score, compared within a row); with a change of the others,
Frantar & Alistarh 2023, arXiv:2301.00774 (SparseGPT, Algorithm 1). Differs: the share of a block of columns
is chosen so that the layer's share is exact; after the sweep the kept weights are refined for their mask (as
in Boža 2024, arXiv:2401.02938, with conjugate gradients in place of ADMM).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mcomp_stages.methods.layer_hessian import BLOCK, Rule, inverse_factor, sweep, with_damping
from mcomp_stages.methods.sparsity.config import Pattern
from mcomp_stages.methods.sparsity.nm import nm_mask

REFINEMENTS = 12

LayerMethod = Literal["obs", "wanda", "obd"]
Result = tuple[Tensor, Tensor]
"""The mask (O, K), False where a weight goes, and the weight as it is then."""


@dataclass(frozen=True)
class Goal:
    """How many weights go: a share of a layer, or what a pattern along its columns leaves out."""

    share: float
    pattern: Pattern | None = None


def obs(weight_OK: Tensor, hessian_KK: Tensor, goal: Goal, damping: float, held_OK: Tensor) -> Result:
    """Choose what goes in one sweep, and let all that stays make up for it."""
    mask_OK, swept_OK = swept(weight_OK, hessian_KK, goal, damping, held_OK)
    return mask_OK, refined(weight_OK, swept_OK, mask_OK, with_damping(hessian_KK, damping))


def swept(weight_OK: Tensor, hessian_KK: Tensor, goal: Goal, damping: float, held_OK: Tensor) -> Result:
    """Choose in blocks of columns what costs least, and let the columns after it make up for each error."""
    factor = inverse_factor(hessian_KK, damping)
    width = BLOCK if goal.pattern is None else goal.pattern.of
    choose = by_share(goal.share) if goal.pattern is None else by_pattern(goal.pattern)
    mask_OK = torch.ones_like(held_OK)
    rule = zeroing(factor.diagonal(), width, choose, held_OK, mask_OK)
    left_OK = sweep(weight_OK, factor, rule, block=width * -(-BLOCK // width))
    return mask_OK, left_OK.masked_fill(~mask_OK, 0.0)


def refined(weight_OK: Tensor, start_OK: Tensor, mask_OK: Tensor, hessian_KK: Tensor) -> Tensor:
    """Return the kept weights brought nearer to the best for this mask, by conjugate gradients on all rows.

    The sweep lets only later columns make up for earlier ones; here all do. Every step takes one product with
    H and lowers the error of every row.
    """
    hessian, x_OK = hessian_KK.to(weight_OK.dtype), start_OK.clone()
    scale_K = hessian.diagonal()
    rest_OK = ((weight_OK - x_OK) @ hessian) * mask_OK
    scaled_OK = rest_OK / scale_K
    direction_OK, size_O = scaled_OK, (rest_OK * scaled_OK).sum(1, keepdim=True)
    for _ in range(REFINEMENTS):
        bent_OK = (direction_OK @ hessian) * mask_OK
        length_O = ratio(size_O, (direction_OK * bent_OK).sum(1, keepdim=True))
        x_OK += length_O * direction_OK
        rest_OK = rest_OK - length_O * bent_OK
        scaled_OK = rest_OK / scale_K
        before_O, size_O = size_O, (rest_OK * scaled_OK).sum(1, keepdim=True)
        direction_OK = scaled_OK + ratio(size_O, before_O) * direction_OK
    return x_OK


def ratio(over: Tensor, under: Tensor) -> Tensor:
    """Return a quotient, 0 where nothing is left to be done."""
    return torch.where(under > 0, over / under.where(under > 0, 1.0), 0.0)


Choose = Callable[[Tensor, Tensor], Tensor]
"""From the scores (O, R) of some columns and the mask of those before them: which weights stay."""


def zeroing(diagonal_K: Tensor, width: int, choose: Choose, held_OK: Tensor, mask_OK: Tensor) -> Rule:
    """Return the rule that decides on `width` columns when the first of them is reached, and zeroes each.

    What it decides is noted in `mask_OK`.
    """

    def rule(column: int, rest_OR: Tensor) -> Tensor:
        if column % width == 0:
            stop = min(column + width, len(diagonal_K))
            values_OR = rest_OR[:, : stop - column] / diagonal_K[column:stop].to(rest_OR.dtype)
            score_OR = values_OR.square().masked_fill(~held_OK[:, column:stop], -1.0)
            mask_OK[:, column:stop] = choose(score_OR, mask_OK[:, :column]) & held_OK[:, column:stop]
        return rest_OR[:, 0] * mask_OK[:, column]

    return rule


def by_pattern(pattern: Pattern) -> Choose:
    """Keep the highest of each row's neighbours."""
    return lambda score_OR, before_OK: nm_mask(score_OR, pattern.keep, pattern.of)


def by_share(share: float) -> Choose:
    """Let so many go that the share holds for all columns up to the last of these."""

    def choose(score_OR: Tensor, before_OK: Tensor) -> Tensor:
        wanted = round(share * len(score_OR) * (before_OK.shape[1] + score_OR.shape[1]))
        return keep_all_but(score_OR, wanted - int((~before_OK).sum()))

    return choose


def keep_all_but(score: Tensor, number: int) -> Tensor:
    """Return a mask that is False for the `number` lowest scores; of equal ones the first go."""
    kept = torch.ones(score.numel(), dtype=torch.bool)
    kept[score.flatten().argsort(stable=True)[: max(number, 0)]] = False
    return kept.view(score.shape)


def wanda(weight_OK: Tensor, hessian_KK: Tensor, goal: Goal, damping: float, held_OK: Tensor) -> Result:
    """Choose in every row alike, by the weight times the root mean square of its input; the rest stays."""
    score_OK = scores(weight_OK, hessian_KK, held_OK)
    if goal.pattern is not None:
        mask_OK = nm_mask(score_OK, goal.pattern.keep, goal.pattern.of)
    else:
        number = round(goal.share * score_OK.shape[1])
        lowest = score_OK.argsort(dim=1, stable=True)[:, :number]
        mask_OK = torch.ones_like(held_OK).scatter_(1, lowest, False)
    mask_OK &= held_OK
    return mask_OK, weight_OK.masked_fill(~mask_OK, 0.0)


def obd(weight_OK: Tensor, hessian_KK: Tensor, goal: Goal, damping: float, held_OK: Tensor) -> Result:
    """Choose in the whole layer by the diagonal of the Hessian; the rest stays."""
    score_OK = scores(weight_OK, hessian_KK, held_OK)
    if goal.pattern is not None:
        mask_OK = nm_mask(score_OK, goal.pattern.keep, goal.pattern.of)
    else:
        mask_OK = keep_all_but(score_OK, round(goal.share * score_OK.numel()))
    mask_OK &= held_OK
    return mask_OK, weight_OK.masked_fill(~mask_OK, 0.0)


def scores(weight_OK: Tensor, hessian_KK: Tensor, held_OK: Tensor) -> Tensor:
    """Return half the diagonal times the squared weight: what the outputs lose without it, alone."""
    score_OK = 0.5 * hessian_KK.diagonal() * weight_OK.double().square()
    return score_OK.masked_fill(~held_OK, -1.0)


METHODS: Mapping[LayerMethod, Callable[[Tensor, Tensor, Goal, float, Tensor], Result]] = {
    "obs": obs,
    "wanda": wanda,
    "obd": obd,
}
