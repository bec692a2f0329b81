"""How many groups each set may keep: rounding, floors, and what a person fixed for a layer."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from math import ceil, gcd

from torch import nn

from mcomp.errors import StageError
from mcomp.model.select import select_modules
from mcomp_stages.methods.pruning.config import LayerLimits, Unit
from mcomp_stages.methods.pruning.group_records import Groups, GroupSet


@dataclass(frozen=True)
class Limits:
    """What holds for one set.

    It keeps a multiple of `round_to` channels, never fewer than `round_to` and `min_channels`, at least
    `min_groups` groups, and loses at most the share `max_ratio`. With `ratio` it loses just that share, as
    near as the others allow. `whole`: it stays.
    """

    round_to: int = 8
    min_channels: int = 8
    max_ratio: float = 1.0
    ratio: float | None = None
    whole: bool = False
    min_groups: int = 1

    def levels(self, size: int, unit: int) -> list[int]:
        """Return how many groups, ascending, a set of `size` groups of `unit` channels each may keep."""
        if self.whole:
            return [size]
        step = self.round_to // gcd(self.round_to, unit)
        by_ratio = ceil(size * (1 - self.max_ratio))
        floor = max(step, ceil(self.min_channels / unit), by_ratio, self.min_groups)
        allowed = [*range(ceil(floor / step) * step, size, step), size]
        if self.ratio is None:
            return allowed
        wanted = size * (1 - self.ratio)
        return [min(allowed, key=lambda kept: abs(kept - wanted))]


def set_limits(
    groups: Groups,
    module: nn.Module,
    usual: Limits,
    layers: Sequence[LayerLimits] = (),
    units: Collection[Unit] | None = None,
) -> list[Limits]:
    """Return the limits of each set: `usual`, changed by the last of `layers` that matches one of its layers.

    A head counts as one: rounding and floors in channels are for the others. Sets of other `units` stay.
    Raises StageError if a pattern matches nothing, or nothing that can be cut.
    """
    of_heads, of_others = replace(usual, round_to=1, min_channels=1), replace(usual, min_groups=1)
    limits = [
        replace(
            of_heads if group_set.unit == "heads" else of_others,
            whole=units is not None and group_set.unit not in units,
        )
        for group_set in groups.sets
    ]
    for layer in layers:
        select_modules(module, [layer.match])
        matched = [at for at, group_set in enumerate(groups.sets) if matches(group_set, layer.match)]
        if not matched:
            raise StageError(f"no channels of what matches '{layer.match}' can be cut", about=layer.match)
        given = layer.model_dump(exclude_none=True, exclude={"match"})
        for at in matched:
            limits[at] = replace(limits[at], **given)
    return limits


def matches(group_set: GroupSet, pattern: str) -> bool:
    """Return whether a pattern names one of the layers that make the channels of a set."""
    return any(fnmatchcase(path, pattern) for path in group_set.layers)


def unit_sizes(groups: Groups) -> list[int]:
    """Return for each set the number of channels that one of its groups holds.

    That is the fewest outputs of one convolution or linear (or the fewest indices of anything else).
    """
    weights = {layer.weight for layer in groups.layers}
    sizes = []
    for group_set in groups.sets:
        counts = [(groups.axes[position], count) for position, count in group_set.axes]
        made = [count for axis, count in counts if axis.output and axis.name in weights]
        sizes.append(min(made or [count for _, count in counts]))
    return sizes
