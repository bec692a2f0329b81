"""Choose which groups go: a global threshold on the scores by bisection, then small moves up to the target.

Legend: S = sets, B = moves compared at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import gcd

import numpy as np
from numpy.typing import NDArray

from mcomp.errors import StageError
from mcomp_stages.methods.pruning.config import Quantity, Target
from mcomp_stages.methods.pruning.groups import STAYS, Groups
from mcomp_stages.methods.pruning.importance import Scores
from mcomp_stages.methods.pruning.size import Floats, Sizes
from mcomp_stages.methods.pruning.union_find import Integers

FULL_ENOUGH = 0.95  # filled up at least to this share of the target where rounding allows
TOO_LITTLE = 0.90  # less than this share of the target is not what was asked for

NAMES: Mapping[Quantity, str] = {"macs": "multiply-adds", "params": "parameters", "channels": "channels"}


@dataclass(frozen=True)
class Cut:
    """The groups that go (num_groups,), and the share of each quantity that stays."""

    groups: Groups
    removed: NDArray[np.bool_]
    shares: Mapping[Quantity, float]

    @cached_property
    def kept_indices(self) -> dict[tuple[str, int], tuple[int, ...]]:
        """The indices that stay of every axis that shrinks, by parameter or buffer and axis."""
        kept = {}
        for axis in self.groups.axes:
            stays = (axis.groups == STAYS) | ~self.removed[axis.groups]
            if not stays.all():
                kept[axis.name, axis.axis] = tuple(np.flatnonzero(stays).tolist())
        return kept

    def shape_after(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a parameter or buffer after the cut."""
        kept = self.kept_indices
        return tuple(len(kept.get((name, axis), range(size))) for axis, size in enumerate(shape))


def choose_cut(
    groups: Groups,
    scores: Scores,
    target: Target,
    *,
    round_to: int = 8,
    min_channels: int = 8,
    nearest: bool = False,
) -> Cut:
    """Return the cut that removes the lowest scores and keeps at most the target.

    Every set keeps a multiple of `round_to` channels and never fewer than `round_to` and `min_channels`; a
    set that has no more than that is left whole. The result is at least 95 % of the target where rounding
    allows. Raises StageError if the target cannot be reached, or if less than 90 % of it would stay and
    `nearest` is not set.
    """
    choices = Choices(groups, scores, target.quantity, round_to, min_channels)
    kept_S = choices.filled(choices.at_threshold(target.keep), target.keep)
    reached = float(choices.share(kept_S))
    if reached < TOO_LITTLE * target.keep and not nearest:
        above, enough = choices.smallest_above(kept_S, target.keep), TOO_LITTLE * target.keep
        raise StageError(
            f"no cut keeps between {enough:.1%} and {target.keep:.1%} of the {choices.noun}; "
            f"the nearest keep {reached:.1%} and {above:.1%}: ask for one of them, lower round_to, or set "
            "nearest: true"
        )
    return choices.cut(kept_S)


class Choices:
    """How many groups each set may keep, which go first, and what is left of the quantity."""

    def __init__(
        self, groups: Groups, scores: Scores, quantity: Quantity, round_to: int, min_channels: int
    ) -> None:
        self.noun = NAMES[quantity]
        self._groups = groups
        self._quantity: Quantity = quantity
        self._sizes = Sizes(groups)
        self._levels = [levels(size, unit, round_to, min_channels) for size, unit in set_sizes(groups)]
        self._order = [s.groups[np.argsort(scores[s.groups], kind="stable")] for s in groups.sets]
        self._sorted = [scores[order] for order in self._order]

    def share(self, kept_BS: Integers) -> Floats:
        """Return what is left of the quantity for each cut."""
        return self._sizes.share(self._quantity, kept_BS)

    def kept(self, threshold: float) -> Integers:
        """Return what each set keeps (S,) when scores below the threshold go, rounded up."""
        kept = []
        for scores, allowed in zip(self._sorted, self._levels, strict=True):
            wanted = len(scores) - int(np.searchsorted(scores, threshold))
            kept.append(allowed[int(np.searchsorted(allowed, wanted))])
        return np.array(kept, dtype=np.int64)

    def at_threshold(self, target: float) -> Integers:
        """Return what stays at the lowest threshold that meets the target. Raises StageError if none does."""
        if not self._sorted:
            raise StageError(
                "no channel can be cut: every one is fixed by an input, an output or an operator"
            )
        thresholds = np.append(np.unique(np.concatenate(self._sorted)), np.inf)
        smallest = float(self.share(self.kept(np.inf)))
        if smallest > target:
            raise StageError(
                f"cannot keep only {target:.1%} of the {self.noun}: {smallest:.1%} is the smallest reachable "
                "share; the rest is fixed, skipped, or needed by round_to and min_channels"
            )
        low, high = 0, len(thresholds) - 1
        while low < high:
            middle = (low + high) // 2
            if self.share(self.kept(thresholds[middle])) <= target:
                high = middle
            else:
                low = middle + 1
        return self.kept(thresholds[low])

    def filled(self, kept_S: Integers, target: float) -> Integers:
        """Put back as much as fits: best scores first, then exchanges between two sets while under 95 %."""
        while True:
            better_S = self._best_step_up(kept_S, target)
            if better_S is None and self.share(kept_S) < FULL_ENOUGH * target:
                better_S = self._best_exchange(kept_S, target)
            if better_S is None:
                return kept_S
            kept_S = better_S

    def smallest_above(self, kept_S: Integers, target: float) -> float:
        """Return the smallest share above the target that is one step away."""
        shares = [float(self.share(step)) for step in self._steps(kept_S, 1)]
        return min((share for share in shares if share > target), default=1.0)

    def cut(self, kept_S: Integers) -> Cut:
        """Return the cut that keeps so many groups of each set: those with the highest scores."""
        removed = np.zeros(self._groups.num_groups, dtype=bool)
        for order, kept in zip(self._order, kept_S.tolist(), strict=True):
            removed[order[: len(order) - kept]] = True
        shares = {quantity: float(self._sizes.share(quantity, kept_S)) for quantity in NAMES}
        return Cut(self._groups, removed, shares)

    def _steps(self, kept_S: Integers, direction: int) -> list[Integers]:
        """Return the cuts that differ by one level in one set: one more (1) or one fewer (-1)."""
        steps = []
        for column, allowed in enumerate(self._levels):
            level = int(np.searchsorted(allowed, kept_S[column])) + direction
            if 0 <= level < len(allowed):
                step = kept_S.copy()
                step[column] = allowed[level]
                steps.append(step)
        return steps

    def _best_step_up(self, kept_S: Integers, target: float) -> Integers | None:
        fitting = [step for step in self._steps(kept_S, 1) if self.share(step) <= target]
        return max(fitting, key=lambda step: self._mean_score(kept_S, step), default=None)

    def _mean_score(self, kept_S: Integers, step_S: Integers) -> float:
        column = int(np.flatnonzero(step_S != kept_S)[0])
        scores = self._sorted[column]
        return float(scores[len(scores) - step_S[column] : len(scores) - kept_S[column]].mean())

    def _best_exchange(self, kept_S: Integers, target: float) -> Integers | None:
        down, up = self._steps(kept_S, -1), self._steps(kept_S, 1)
        if not down or not up:
            return None
        moves_BS = np.concatenate([np.array(up) + (step - kept_S) for step in down])
        shares_B = self.share(moves_BS)
        changed_B = np.count_nonzero(moves_BS != kept_S, axis=1) == 2
        fits_B = changed_B & (shares_B <= target) & (shares_B > self.share(kept_S))
        if not fits_B.any():
            return None
        return np.asarray(moves_BS[np.where(fits_B, shares_B, -1.0).argmax()])


def set_sizes(groups: Groups) -> list[tuple[int, int]]:
    """Return for each set the number of groups and the number of channels that one group holds.

    That is the fewest outputs of one convolution or linear (or the fewest indices of anything else).
    """
    weights = {layer.weight for layer in groups.layers}
    sizes = []
    for group_set in groups.sets:
        counts = [(groups.axes[position], count) for position, count in group_set.axes]
        made = [count for axis, count in counts if axis.output and axis.name in weights]
        sizes.append((len(group_set.groups), min(made or [count for _, count in counts])))
    return sizes


def levels(size: int, unit: int, round_to: int, min_channels: int) -> list[int]:
    """Return the numbers of groups, ascending, that a set of `size` groups of `unit` channels may keep."""
    step = round_to // gcd(round_to, unit)
    floor = max(step, -(-min_channels // unit))
    first = -(-floor // step) * step
    return [*range(first, size, step), size]
