"""Which ranks a layer may have, what each costs and loses, and which it gets.

Legend: P = ranks that a layer may have, in the order of their costs; the last is the layer as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mcomp.errors import StageError
from mcomp_stages.methods.lowrank.factors import lost_energy, unfolded
from mcomp_stages.methods.lowrank.thin import Layer, full_ranks, is_matrix

Floats = NDArray[np.float64]
Ranks = tuple[int, ...]

TOO_LITTLE = 0.90  # less than this share of the target is not what was asked for
HALVINGS = 60
ROUNDING = 1e-9  # a share times the total is not exactly what the share was taken of


class Positions(NamedTuple):
    """How often a layer's weights are used for one sample: once for each position of its input or output."""

    inputs: float
    outputs: float


ONCE = Positions(1, 1)


@dataclass(frozen=True)
class Ladder:
    """The ranks that a layer may have, with what each costs (P,) and loses of the layer's energy (P,).

    The last are None: the layer as it is. What costs more loses less.
    """

    ranks: tuple[Ranks | None, ...]
    costs: Floats
    lost: Floats


def cost(layer: Layer, ranks: Ranks | None, positions: Positions) -> float:
    """Return a layer's multiply-adds for one sample at some ranks; with `ONCE`, its weights."""
    outputs, inputs = layer.weight.shape[:2]
    if ranks is None:
        return layer.weight.numel() * positions.outputs
    if is_matrix(layer):
        return ranks[0] * (inputs + outputs) * positions.outputs
    rank_in, rank_out = ranks
    reduce = 0 if rank_in == inputs else inputs * rank_in
    restore = 0 if rank_out == outputs else outputs * rank_out
    core = rank_in * rank_out * layer.weight[0, 0].numel()
    return reduce * positions.inputs + (core + restore) * positions.outputs


def ladder(layer: Layer, positions: Positions, round_to: int) -> Ladder:
    """Return the ranks, multiples of `round_to`, at which a layer costs less than it does as it is."""
    whole = cost(layer, None, positions)
    priced = [(cost(layer, ranks, positions), lost, ranks) for ranks, lost in losses(layer, round_to)]
    steps: list[tuple[float, float, Ranks | None]] = []
    for step in sorted(priced):
        if step[0] < whole and (not steps or step[1] < steps[-1][1]):
            steps.append(step)
    costs, lost_P, ranks_P = zip(*steps, (whole, 0.0, None), strict=True)
    return Ladder(ranks_P, np.array(costs, dtype=np.float64), np.array(lost_P, dtype=np.float64))


def losses(layer: Layer, round_to: int) -> Iterator[tuple[Ranks, float]]:
    """Yield ranks and the share of a weight's sum of squares that they lose.

    For Tucker-2 that is a bound: the sum of what the two bases lose, each for itself.
    """
    weight, full = layer.weight.detach(), full_ranks(layer)
    if is_matrix(layer):
        lost = lost_energy(weight.flatten(1))
        yield from (((rank,), float(lost[rank])) for rank in range(round_to, full[0], round_to))
        return
    by_axis = [lost_of(weight, axis) for axis in (1, 0)]
    allowed = [sorted({*range(round_to, most, round_to), most}) for most in full]
    for rank_in, rank_out in product(*allowed):
        if (rank_in, rank_out) != full:
            yield (rank_in, rank_out), float(by_axis[0][rank_in] + by_axis[1][rank_out])


def lost_of(weight: Tensor, axis: int) -> Tensor:
    """Return what is lost by axis of a weight, also for ranks beyond those that its matrix has."""
    matrix = unfolded(weight, axis)
    lost = lost_energy(matrix)
    return lost.new_zeros(len(matrix) + 1).index_copy(0, lost.new_tensor(range(len(lost))).long(), lost)


def by_energy(ladders: Mapping[str, Ladder], keep: float) -> dict[str, Ranks | None]:
    """Return for each layer the cheapest ranks that keep the share `keep` of its energy."""
    tolerance = 1 - keep + 1e-12  # energies are sums of rounded numbers
    return {
        path: each.ranks[int(np.flatnonzero(each.lost <= tolerance)[0])] for path, each in ladders.items()
    }


def by_cost(
    ladders: Mapping[str, Ladder], fixed: float, target: float, noun: str, nearest: bool = False
) -> dict[str, Ranks | None]:
    """Return the ranks with the least energy lost in all layers together, at most `target` with what is
    `fixed`.

    Each layer takes the step with the least loss plus price times cost; the price is halved in on until the
    target is met, and what is then left is spent on the steps that give most energy back.
    Raises StageError if the lowest ranks cost more, or if less than 90 % of the target is used and `nearest`
    is not set.
    """
    whole, smallest = (fixed + sum(float(each.costs[at]) for each in ladders.values()) for at in (-1, 0))
    total = whole or 1.0
    if smallest > target * (1 + ROUNDING):
        raise StageError(
            f"cannot keep only {target / total:.1%} of the {noun}: {smallest / total:.1%} is the smallest "
            "reachable share; the rest is in layers that are left, or needed by round_to"
        )
    target = max(target, smallest)
    steps = filled(ladders, cheapest_price(ladders, target - fixed), target - fixed)
    reached = fixed + spent(ladders, steps)
    if reached < TOO_LITTLE * target and not nearest:
        raise StageError(
            f"no ranks keep between {TOO_LITTLE * target / total:.1%} and {target / total:.1%} of the "
            f"{noun}; the nearest keep {reached / total:.1%}: ask for that, lower round_to, or set "
            "nearest: true"
        )
    return {path: each.ranks[steps[path]] for path, each in ladders.items()}


def cheapest_price(ladders: Mapping[str, Ladder], target: float) -> dict[str, int]:
    """Return the steps at the lowest price at which all layers cost at most `target`."""
    unit = sum(float(each.costs[-1]) for each in ladders.values()) or 1.0
    low, high = 0.0, 1.0
    while spent(ladders, at_price(ladders, high / unit)) > target * (1 + ROUNDING):
        low, high = high, high * 2
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        fits = spent(ladders, at_price(ladders, middle / unit)) <= target * (1 + ROUNDING)
        low, high = (low, middle) if fits else (middle, high)
    return at_price(ladders, high / unit)


def at_price(ladders: Mapping[str, Ladder], price: float) -> dict[str, int]:
    """Return each layer's step with the least loss plus price times cost."""
    return {path: int((each.lost + price * each.costs).argmin()) for path, each in ladders.items()}


def spent(ladders: Mapping[str, Ladder], steps: Mapping[str, int]) -> float:
    """Return what the steps cost together."""
    return float(sum(each.costs[steps[path]] for path, each in ladders.items()))


def filled(ladders: Mapping[str, Ladder], steps: Mapping[str, int], target: float) -> dict[str, int]:
    """Return steps further up, as many as the target leaves room for."""
    steps = dict(steps)
    while True:
        room = target - spent(ladders, steps)
        gains = {
            (path, step): (each.lost[steps[path]] - each.lost[step]) / more
            for path, each in ladders.items()
            for step in range(steps[path] + 1, len(each.ranks))
            if (more := each.costs[step] - each.costs[steps[path]]) <= room
        }
        if not gains:
            return steps
        path, step = max(gains, key=gains.__getitem__)
        steps[path] = step
