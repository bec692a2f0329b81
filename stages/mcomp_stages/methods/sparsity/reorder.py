"""Channels in another order: the same function, and an N:M pattern that costs less.

The channels of a set of groups (`methods/pruning/groups.py`) can stand in any order, if everything that makes
or reads them has the same one. The edit is that of a cut that keeps all channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count

import numpy as np
import torch
from torch import Tensor

from mcomp.errors import StageError
from mcomp.model.edits import KeepChannels, Slice
from mcomp.model.model import Model
from mcomp.stage import Checkpoint, Unit
from mcomp_stages.methods.pruning.group_records import GroupedAxis, Groups, GroupSet
from mcomp_stages.methods.pruning.groups import channel_groups
from mcomp_stages.methods.pruning.proof import equal, random_inputs, tensors
from mcomp_stages.methods.pruning.union_find import Integers
from mcomp_stages.methods.sparsity.config import Axis, Pattern
from mcomp_stages.methods.sparsity.nm import AXES, lines
from mcomp_stages.methods.sparsity.permutation import best_order


def reordered(
    model: Model,
    names: Sequence[str],
    pattern: Pattern,
    axis: Axis,
    example: Mapping[str, Tensor],
    unit: Unit,
) -> Model:
    """Return a model that computes the same, with its channels in the best order for a pattern.

    `names` are the weights that will have the pattern. A set of channels is left as it is where a layer reads
    only some of them or several numbers of each. `unit` keeps each order that is found
    (`mcomp.stage.Context.unit`). Raises StageError if the model cannot be captured, or if the result computes
    anything else.
    """
    groups = channel_groups(model.module, example)
    indices: dict[tuple[str, int], Integers] = {}
    numbers = count()

    def best(scores_RC: Tensor) -> Tensor:
        def compute() -> Checkpoint:
            return Checkpoint({"order": best_order(scores_RC, pattern.keep, pattern.of)})

        return unit(f"order-{next(numbers)}", compute).tensors["order"]

    for group_set in groups.sets:
        order = order_of(group_set, groups, model, names, axis, best)
        if order is not None:
            for position, _ in group_set.axes:
                move(groups.axes[position], group_set.groups, order, indices)
    if not indices:
        return model
    slices = tuple(
        Slice(name=name, axis=each, keep=tuple(index.tolist())) for (name, each), index in indices.items()
    )
    result = model.edited(KeepChannels(slices=slices))
    require_same(model, result, example)
    return result


def order_of(
    group_set: GroupSet,
    groups: Groups,
    model: Model,
    names: Sequence[str],
    axis: Axis,
    best: Callable[[Tensor], Tensor],
) -> Integers | None:
    """Return the order of a set's groups, or None if nothing is to be gained.

    `best` gives the order of the columns of scores (R, C).
    """
    readers = [
        groups.axes[position]
        for position, count in group_set.axes
        if count == 1 and groups.axes[position].name in names and groups.axes[position].axis == AXES[axis]
    ]
    whole = [each for each in readers if len(each.groups) == len(group_set.groups)]
    if not whole or len(whole) < len(readers):
        return None
    if any(not np.array_equal(each.groups, whole[0].groups) for each in whole):
        return None
    rows = [lines(model.module.get_parameter(each.name).detach().abs(), axis) for each in whole]
    order = best(torch.cat(rows)).numpy()
    if np.array_equal(order, np.arange(len(order))):
        return None
    return np.asarray(whole[0].groups[order])


def move(
    axis: GroupedAxis, members: Integers, order: Integers, indices: dict[tuple[str, int], Integers]
) -> None:
    """Let the indices of one axis follow: where a group of the set stood, the next of `order` stands."""
    index = indices.setdefault((axis.name, axis.axis), np.arange(len(axis.groups)))
    places = {int(group): np.flatnonzero(axis.groups == group) for group in members}
    by_first = sorted(places, key=lambda group: int(places[group][0]))
    for here, there in zip(by_first, order.tolist(), strict=True):
        index[places[here]] = places[there]


def require_same(model: Model, result: Model, example: Mapping[str, Tensor]) -> None:
    """Raise StageError unless two models give the same on random inputs."""
    inputs = random_inputs(example)
    with torch.no_grad():
        expected, actual = (tensors(each.copy().module.eval()(**inputs)) for each in (model, result))
    if not all(equal(*pair) for pair in zip(expected, actual, strict=True)):
        raise StageError("the model with reordered channels computes something else; set permute: false")
