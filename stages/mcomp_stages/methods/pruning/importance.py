"""How much a group of channels matters, from its weights alone.

Sources: the norm of a filter, Li et al. 2017, arXiv:1608.08710 (section 3.1), summed over every slice of a
group as in Fang et al. 2023, arXiv:2301.12900 (section 3.3); the distance to all other filters, He et al.
2019, arXiv:1811.00250 (equation 7); the scale of a norm, Liu et al. 2017, arXiv:1708.06519 (section 3).
Differs: distances are between whole groups, over all the filters that a group holds.

A score is NaN where a group has nothing that the importance looks at; such groups stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn, rand

from mcomp_stages.methods.pruning.evidence import Evidence
from mcomp_stages.methods.pruning.group_records import STAYS, GroupedAxis, Groups

Scores = NDArray[np.float64]

NORMS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.GroupNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.LayerNorm,
    nn.RMSNorm,
)


def l1_importance(groups: Groups, evidence: Evidence) -> Scores:
    """Return the sum of the absolute weights of each group."""
    return summed_over_slices(groups, lambda name: known(evidence, name, Tensor.abs))


def l2_importance(groups: Groups, evidence: Evidence) -> Scores:
    """Return the Euclidean norm of all the weights of each group."""
    return np.sqrt(summed_over_slices(groups, lambda name: known(evidence, name, Tensor.square)))


def known(evidence: Evidence, name: str, power: Callable[[Tensor], Tensor]) -> Tensor | None:
    """Return a function of a parameter; buffers are no weights."""
    weight = evidence.parameters.get(name)
    return None if weight is None else power(weight.double())


def geometric_median_importance(groups: Groups, evidence: Evidence) -> Scores:
    """Return the sum of the distances of each group's filters to those of all others in its set.

    The smallest is the nearest to the geometric median: the others can stand for it.
    """
    scores = np.full(groups.num_groups, np.nan)
    for group_set in groups.sets:
        filters = [
            filters_of(group_set.groups, groups.axes[position], evidence)
            for position, _ in group_set.axes
            if makes_filters(groups.axes[position], groups)
        ]
        if filters:
            vectors = torch.cat(filters, dim=1)
            scores[group_set.groups] = torch.cdist(vectors, vectors).sum(1).numpy()
    return scores


def makes_filters(axis: GroupedAxis, groups: Groups) -> bool:
    """Return whether an axis is that of the outputs of a convolution, linear or embedding."""
    return axis.output and len(groups.shapes.get(axis.name, ())) > 1


def filters_of(members: NDArray[np.int64], axis: GroupedAxis, evidence: Evidence) -> Tensor:
    """Return the filters of each of the groups as one row (num_members, numbers)."""
    weight = evidence.parameters[axis.name].double().movedim(axis.axis, 0).flatten(1).cpu()
    order = np.argsort(axis.groups, kind="stable")
    ordered = axis.groups[order]
    first, last = np.searchsorted(ordered, members), np.searchsorted(ordered, members, side="right")
    rows = [weight[torch.from_numpy(order[a:b])].flatten() for a, b in zip(first, last, strict=True)]
    return torch.stack(rows)


def norm_scale_importance(groups: Groups, evidence: Evidence) -> Scores:
    """Return the mean absolute scale of the norms that the channels of a group pass."""
    scales = set(scale_names(evidence.module))
    sums, counts = np.zeros(groups.num_groups), np.zeros(groups.num_groups)
    for axis in groups.axes:
        if axis.name in scales:
            cut = axis.groups != STAYS
            values = evidence.parameters[axis.name].abs().double().cpu().numpy()
            np.add.at(sums, axis.groups[cut], values[cut])
            np.add.at(counts, axis.groups[cut], 1)
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def scale_names(module: nn.Module) -> Iterator[str]:
    """Yield the names of the scales of all norms."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    for part in module.modules():
        if isinstance(part, NORMS) and part.weight is not None:
            yield names[id(part.weight)]


def random_importance(groups: Groups, evidence: Evidence) -> Scores:
    """Return uniform scores: the floor that any other importance has to beat."""
    return rand(groups.num_groups, generator=evidence.generator).double().numpy()


def summed_over_slices(groups: Groups, values_of: Callable[[str], Tensor | None]) -> Scores:
    """Return the sum over all the slices of each group of what `values_of` gives for a parameter."""
    sums = np.zeros(groups.num_groups)
    for axis in groups.axes:
        values = values_of(axis.name)
        if values is None:
            continue
        others = [other for other in range(values.ndim) if other != axis.axis]
        by_index = (values.sum(others) if others else values).double().cpu().numpy()
        cut = axis.groups != STAYS
        np.add.at(sums, axis.groups[cut], by_index[cut])
    return sums
