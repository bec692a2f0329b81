"""How much a group of channels matters: one score for each, comparable over the whole network.

Sources: the norm of a filter, Li et al. 2017, arXiv:1608.08710 (section 3.1); summed over every slice of a
group and divided by the mean of the layer, Fang et al. 2023, arXiv:2301.12900 (section 3.3). Differs: the
division is by the mean of the set (the groups that cut the same axes).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Generator, Tensor, rand

from mcomp_stages.methods.pruning.config import Importance
from mcomp_stages.methods.pruning.groups import STAYS, Groups

Scores = NDArray[np.float64]
Parameters = Mapping[str, Tensor]


def l1_importance(groups: Groups, parameters: Parameters, generator: Generator) -> Scores:
    """Return the sum of the absolute weights of each group."""
    return summed_over_slices(groups, parameters, lambda weight: weight.abs())


def l2_importance(groups: Groups, parameters: Parameters, generator: Generator) -> Scores:
    """Return the Euclidean norm of all the weights of each group."""
    return np.sqrt(summed_over_slices(groups, parameters, lambda weight: weight.square()))


def random_importance(groups: Groups, parameters: Parameters, generator: Generator) -> Scores:
    """Return uniform scores: the floor that any other importance has to beat."""
    return rand(groups.num_groups, generator=generator).double().numpy()


IMPORTANCE: dict[Importance, Callable[[Groups, Parameters, Generator], Scores]] = {
    "l1": l1_importance,
    "l2": l2_importance,
    "random": random_importance,
}


def channel_importance(
    groups: Groups, parameters: Parameters, importance: Importance, generator: Generator
) -> Scores:
    """Return the score of each group (num_groups,), divided by the mean of its set."""
    scores = IMPORTANCE[importance](groups, parameters, generator)
    for group_set in groups.sets:
        mean = scores[group_set.groups].mean()
        if mean > 0:
            scores[group_set.groups] /= mean
    return scores


def summed_over_slices(groups: Groups, parameters: Parameters, power: Callable[[Tensor], Tensor]) -> Scores:
    """Return the sum of `power(weight)` over all the slices of each group; buffers are no weights."""
    sums = np.zeros(groups.num_groups)
    for axis in groups.axes:
        weight = parameters.get(axis.name)
        if weight is None:
            continue
        others = [other for other in range(weight.ndim) if other != axis.axis]
        values = power(weight.detach().double())
        by_index = (values.sum(others) if others else values).cpu().numpy()
        cut = axis.groups != STAYS
        np.add.at(sums, axis.groups[cut], by_index[cut])
    return sums
