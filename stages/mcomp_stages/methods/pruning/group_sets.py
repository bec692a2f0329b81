"""Groups that can stand for each other, and what they are groups of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from mcomp_stages.methods.pruning.config import Unit
from mcomp_stages.methods.pruning.group_records import STAYS, GroupedAxis, GroupSet

Signature = tuple[tuple[int, int], ...]


def group_sets(axes: Sequence[GroupedAxis], makers: Makers) -> tuple[GroupSet, ...]:
    """Put groups that hold equally many indices of the same axes into one set."""
    signatures: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for position, axis in enumerate(axes):
        groups, counts = np.unique(axis.groups[axis.groups != STAYS], return_counts=True)
        for group, count in zip(groups.tolist(), counts.tolist(), strict=True):
            signatures[group].append((position, count))
    members: dict[Signature, list[int]] = defaultdict(list)
    for group in sorted(signatures):
        members[tuple(signatures[group])].append(group)
    return tuple(makers.group_set(groups, signature, axes) for signature, groups in members.items())


class Makers:
    """Tells what makes the channels of a set, and so what its groups are.

    `weights` are those of layers that make channels of their own, `heads` the groups that are heads.
    """

    def __init__(
        self, weights: Collection[str], heads: Collection[int], shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        self._weights, self._heads, self._shapes = weights, heads, shapes

    def group_set(self, groups: Sequence[int], signature: Signature, axes: Sequence[GroupedAxis]) -> GroupSet:
        """Return a set with its layers and its unit."""
        made = [axes[position] for position, _ in signature if axes[position].output]
        makers = [axis for axis in made if axis.name in self._weights]
        layers = tuple(dict.fromkeys(axis.name.rpartition(".")[0] for axis in makers))
        return GroupSet(np.array(groups), signature, layers, self._unit(groups, makers, axes))

    def _unit(
        self, groups: Sequence[int], makers: Sequence[GroupedAxis], axes: Sequence[GroupedAxis]
    ) -> Unit:
        if groups[0] in self._heads:
            return "heads"
        inputs = {inputs_of(maker, axes) for maker in makers}
        if len(inputs) != 1:
            return "width"
        return "neurons" if len(self._shapes[makers[0].name]) == 2 else "filters"


def inputs_of(maker: GroupedAxis, axes: Sequence[GroupedAxis]) -> tuple[int, ...]:
    """Return the groups that a layer reads; two that read the same (a gate) make one kind of channels."""
    read = (axis for axis in axes if axis.name == maker.name and axis.axis != maker.axis)
    return next((tuple(axis.groups.tolist()) for axis in read), ())
