"""The cut: which groups go, chosen by their scores down to a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mcomp.errors import StageError
from mcomp_stages.methods.pruning.choices import Choices
from mcomp_stages.methods.pruning.config import Quantity, Target
from mcomp_stages.methods.pruning.group_records import STAYS, Groups
from mcomp_stages.methods.pruning.importance import Scores
from mcomp_stages.methods.pruning.limits import Limits

TOO_LITTLE = 0.90  # less than this share of the target is not what was asked for
USUAL = Limits()


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


def smallest_share(groups: Groups, scores: Scores, limits: Sequence[Limits]) -> float:
    """Return the share of the multiply-adds that stays if every set loses what its limits allow."""
    choices = Choices(groups, scores, "macs", limits)
    return float(choices.share(choices.kept(np.inf)))


def choose_cut(
    groups: Groups,
    scores: Scores,
    target: Target | None,
    *,
    limits: Limits | Sequence[Limits] = USUAL,
    nearest: bool = False,
) -> Cut:
    """Return the cut that removes the lowest scores and keeps at most the target.

    `limits` says what a set may keep, for all or for each; a set that cannot lose anything, or that has no
    score (NaN), is left whole. The result is at least 95 % of the target where rounding allows. Without a
    target only the sets whose limits fix a ratio are cut. Raises StageError if the target cannot be reached,
    or if less than 90 % of it would stay and `nearest` is not set.
    """
    if isinstance(limits, Limits):
        limits = [limits] * len(groups.sets)
    if target is None:
        fixed = [each if each.ratio is not None else replace(each, whole=True) for each in limits]
        choices = Choices(groups, scores, "channels", fixed)
        return Cut(groups, *choices.cut(choices.kept(np.inf)))
    choices = Choices(groups, scores, target.quantity, limits)
    kept_S = choices.filled(choices.at_threshold(target.keep), target.keep)
    reached = float(choices.share(kept_S))
    if reached < TOO_LITTLE * target.keep and not nearest:
        above, enough = choices.smallest_above(kept_S, target.keep), TOO_LITTLE * target.keep
        raise StageError(
            f"no cut keeps between {enough:.1%} and {target.keep:.1%} of the {choices.noun}; "
            f"the nearest keep {reached:.1%} and {above:.1%}: ask for one of them, lower round_to, or set "
            "nearest: true"
        )
    return Cut(groups, *choices.cut(kept_S))
