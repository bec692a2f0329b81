"""Which groups go: a global threshold on the scores by bisection, then small moves up to the target.

Legend: S = sets, B = moves compared at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mcomp.errors import StageError
from mcomp_stages.methods.pruning.config import Quantity
from mcomp_stages.methods.pruning.group_records import Groups
from mcomp_stages.methods.pruning.importance import Scores
from mcomp_stages.methods.pruning.limits import Limits, unit_sizes
from mcomp_stages.methods.pruning.size import Floats, Sizes
from mcomp_stages.methods.pruning.union_find import Integers

FULL_ENOUGH = 0.95  # filled up at least to this share of the target where rounding allows
NAMES: Mapping[Quantity, str] = {"macs": "multiply-adds", "params": "parameters", "channels": "channels"}


class Choices:
    """How many groups each set may keep, which go first, and what is left of the quantity."""

    def __init__(self, groups: Groups, scores: Scores, quantity: Quantity, limits: Sequence[Limits]) -> None:
        self.noun = NAMES[quantity]
        self._groups = groups
        self._quantity: Quantity = quantity
        self._sizes = Sizes(groups)
        unscored = [bool(np.isnan(scores[s.groups]).any()) for s in groups.sets]
        scores = np.where(np.isnan(scores), np.inf, scores)
        self._levels = [
            (replace(each, whole=True) if unknown else each).levels(len(s.groups), unit)
            for s, unit, each, unknown in zip(groups.sets, unit_sizes(groups), limits, unscored, strict=True)
        ]
        self._free_S = np.array(
            [levels[0] < len(s.groups) for s, levels in zip(groups.sets, self._levels, strict=True)],
            dtype=bool,
        )
        self._order = [s.groups[np.argsort(scores[s.groups], kind="stable")] for s in groups.sets]
        self._sorted = [scores[order] for order in self._order]

    def share(self, kept_BS: Integers) -> Floats:
        """Return what is left of the quantity for each cut; of channels, of those that could be cut."""
        if self._quantity != "channels":
            return self._sizes.share(self._quantity, kept_BS)
        fixed = self._sizes.of("channels", np.where(self._free_S, 0, self._sizes.full_S))
        cut, whole = (self._sizes.of("channels", kept) - fixed for kept in (kept_BS, self._sizes.full_S))
        return cut / whole

    def kept(self, threshold: float) -> Integers:
        """Return what each set keeps (S,) when scores below the threshold go, rounded up."""
        kept = []
        for scores, allowed in zip(self._sorted, self._levels, strict=True):
            wanted = len(scores) - int(np.searchsorted(scores, threshold))
            kept.append(allowed[min(int(np.searchsorted(allowed, wanted)), len(allowed) - 1)])
        return np.array(kept, dtype=np.int64)

    def at_threshold(self, target: float) -> Integers:
        """Return what stays at the lowest threshold that meets the target. Raises StageError if none does."""
        if not self._free_S.any():
            raise StageError(
                "no channel can be cut: each is fixed by an input, an output, an operator or the settings, "
                "or has no score"
            )
        thresholds = np.append(np.unique(np.concatenate(self._sorted)), np.inf)
        smallest = float(self.share(self.kept(np.inf)))
        if smallest > target:
            raise StageError(
                f"cannot keep only {target:.1%} of the {self.noun}: {smallest:.1%} is the smallest reachable "
                "share; the rest is fixed, skipped, without a score, or needed by round_to and min_channels"
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

    def cut(self, kept_S: Integers) -> tuple[NDArray[np.bool_], dict[Quantity, float]]:
        """Return the groups that go if each set keeps so many of the highest scores, and the shares that
        stay.
        """
        removed = np.zeros(self._groups.num_groups, dtype=bool)
        for order, kept in zip(self._order, kept_S.tolist(), strict=True):
            removed[order[: len(order) - kept]] = True
        shares = {quantity: float(self._sizes.share(quantity, kept_S)) for quantity in NAMES}
        shares[self._quantity] = float(self.share(kept_S))
        return removed, shares

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
