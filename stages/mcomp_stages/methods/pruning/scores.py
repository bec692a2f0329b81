"""Scores of all groups of a model: an importance, and how those of different layers are compared.

Sources: division by the mean of a layer, Fang et al. 2023, arXiv:2301.12900 (section 3.3); LAMP, the share of
a squared weight in all that are not smaller, Lee et al. 2021, arXiv:2010.07611 (equation 3); ranks within
isomorphic structures, Fang et al. 2024, arXiv:2407.04616 (section 3.3). Differs: LAMP is of groups, not of
single weights; two sets of groups are isomorphic if they cut the same axes of parameters of the same kind
(kernel sizes included), whatever their number of channels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from mcomp_stages.methods.pruning.activity import activity_importance
from mcomp_stages.methods.pruning.config import Importance, Normalization, Scope
from mcomp_stages.methods.pruning.evidence import Evidence
from mcomp_stages.methods.pruning.gradients import hessian_importance, taylor_importance
from mcomp_stages.methods.pruning.group_records import Groups, GroupSet
from mcomp_stages.methods.pruning.importance import (
    Scores,
    geometric_median_importance,
    l1_importance,
    l2_importance,
    norm_scale_importance,
    random_importance,
)

IMPORTANCE: dict[Importance, Callable[[Groups, Evidence], Scores]] = {
    "l1": l1_importance,
    "l2": l2_importance,
    "fpgm": geometric_median_importance,
    "bn_scale": norm_scale_importance,
    "taylor": taylor_importance,
    "obd": hessian_importance,
    "apoz": activity_importance,
    "random": random_importance,
}


def channel_importance(
    groups: Groups,
    evidence: Evidence,
    importance: Importance,
    normalization: Normalization = "mean",
    scope: Scope = "global",
) -> Scores:
    """Return the score of each group (num_groups,): the lowest of all go first.

    NaN where the importance has nothing to look at. With the scope `uniform` the scores are ranks within a
    set, so that every set loses the same share.
    """
    scores = IMPORTANCE[importance](groups, evidence)
    if scope == "uniform":
        return ranks(scores, ((group_set,) for group_set in groups.sets))
    return NORMALIZATION[normalization](scores, groups)


def over_the_mean(scores: Scores, groups: Groups) -> Scores:
    """Divide by the mean of the set."""
    result = scores.copy()
    for group_set in groups.sets:
        mean = scores[group_set.groups].mean()
        if mean > 0:
            result[group_set.groups] /= mean
    return result


def layer_adaptive(scores: Scores, groups: Groups) -> Scores:
    """Divide the square by the sum of the squares of all in the set that are not smaller."""
    result = scores.copy()
    for group_set in groups.sets:
        squares = scores[group_set.groups] ** 2
        order = np.argsort(squares, kind="stable")
        # The sum from each one to the largest; what has the same score as a smaller one counts itself first.
        tails = np.cumsum(squares[order][::-1])[::-1]
        shares = np.divide(squares[order], tails, out=np.zeros_like(tails), where=tails != 0)
        result[group_set.groups[order]] = shares
    return result


def isomorphic_ranks(scores: Scores, groups: Groups) -> Scores:
    """Rank within all sets of one structure."""
    structures: dict[tuple[object, ...], list[GroupSet]] = defaultdict(list)
    for group_set in groups.sets:
        structures[structure(group_set, groups)].append(group_set)
    return ranks(over_the_mean(scores, groups), structures.values())


def structure(group_set: GroupSet, groups: Groups) -> tuple[object, ...]:
    """Return what isomorphic sets have in common: the kinds of the axes that they cut."""
    kinds = []
    for position, count in group_set.axes:
        axis = groups.axes[position]
        shape = groups.shapes.get(axis.name, ())
        kinds.append((len(shape), shape[2:], axis.axis, axis.output, count))
    return tuple(sorted(kinds))


def ranks(scores: Scores, classes: Iterable[Iterable[GroupSet]]) -> Scores:
    """Return the place of each score in its class, between 0 and 1; equal ones in the order of the groups."""
    result = scores.copy()
    for sets in classes:
        members = np.concatenate([group_set.groups for group_set in sets])
        members = members[~np.isnan(scores[members])]
        order = np.argsort(scores[members], kind="stable")
        result[members[order]] = (np.arange(len(members)) + 0.5) / max(len(members), 1)
    return result


def unchanged(scores: Scores, groups: Groups) -> Scores:
    """Compare the scores as they are."""
    return scores


NORMALIZATION: Mapping[Normalization, Callable[[Scores, Groups], Scores]] = {
    "mean": over_the_mean,
    "lamp": layer_adaptive,
    "isomorphic": isomorphic_ranks,
    "none": unchanged,
}
