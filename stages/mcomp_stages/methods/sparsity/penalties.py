"""Penalties by name: what of a model shrinks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mcomp.errors import StageError
from mcomp.model.edits import Edit, KeepChannels
from mcomp_stages.methods.pruning.group_records import Groups
from mcomp_stages.methods.pruning.importance import scale_names
from mcomp_stages.methods.sparsity.chosen import Chosen
from mcomp_stages.methods.sparsity.penalty_config import GroupLasso, Penalty
from mcomp_stages.methods.sparsity.shrinkage import (
    Shrink,
    Slices,
    as_groups,
    in_proportion,
    towards_zero,
)


@dataclass(frozen=True)
class Penalized:
    """What a penalty may be about: the chosen weights, what is cut together, and the cut if it is known."""

    chosen: Sequence[Chosen]
    groups: Groups
    cut: Sequence[Edit] = ()


Make = Callable[[nn.Module, Any, Penalized], Shrink]


def l1(module: nn.Module, penalty: Penalty, about: Penalized) -> Shrink:
    """The chosen weights."""
    return towards_zero(module.get_parameter(each.name) for each in about.chosen)


def l2(module: nn.Module, penalty: Penalty, about: Penalized) -> Shrink:
    """The chosen weights."""
    return in_proportion(module.get_parameter(each.name) for each in about.chosen)


def slimming(module: nn.Module, penalty: Penalty, about: Penalized) -> Shrink:
    """The scales of norms. Raises StageError if there are none."""
    names = list(scale_names(module))
    if not names:
        raise StageError("slimming shrinks the scales of norms, and the model has none; take another penalty")
    return towards_zero(module.get_parameter(name) for name in names)


def group_lasso(module: nn.Module, penalty: GroupLasso, about: Penalized) -> Shrink:
    """Whole groups."""
    slices, num_groups = GROUPS[penalty.groups](about)
    if not slices:
        raise StageError("no channel can be cut, so there is no group to shrink")
    return as_groups(parameters_of(module, slices), slices, num_groups)


def growing(module: nn.Module, penalty: Penalty, about: Penalized) -> Shrink:
    """What the cut takes, by L2: the slices that it does not keep."""
    slices = [
        Slices(each.name, each.axis, gone(module.get_parameter(each.name), each.axis, each.keep))
        for edit in about.cut
        if isinstance(edit, KeepChannels)
        for each in edit.slices
        if each.name in dict(module.named_parameters())
    ]
    parameters = parameters_of(module, slices)

    def shrink(step: float) -> None:
        for each in slices:
            index = (each.groups >= 0).nonzero().flatten().to(parameters[each.name].device)
            weight = parameters[each.name]
            weight.index_copy_(each.axis, index, weight.index_select(each.axis, index) / (1 + step))

    return shrink


def gone(weight: Tensor, axis: int, keep: Sequence[int]) -> Tensor:
    """Return 0 for the indices that go and -1 for those that stay."""
    groups = torch.zeros(weight.shape[axis], dtype=torch.int64)
    groups[list(keep)] = -1
    return groups


def parameters_of(module: nn.Module, slices: Sequence[Slices]) -> dict[str, Tensor]:
    """Return the parameters that slices are of."""
    return {each.name: module.get_parameter(each.name) for each in slices}


# The groups of a group lasso: slices, and how many groups there are.


def coupled(about: Penalized) -> tuple[list[Slices], int]:
    """What is cut together."""
    slices = [
        Slices(each.name, each.axis, torch.from_numpy(each.groups.copy()))
        for each in about.groups.axes
        if each.name in about.groups.shapes
    ]
    return slices, about.groups.num_groups


def along(axis: int) -> Callable[[Penalized], tuple[list[Slices], int]]:
    """The outputs (axis 0) or the inputs (axis 1) of each layer."""

    def slices_along(about: Penalized) -> tuple[list[Slices], int]:
        slices, count = [], 0
        for each in about.chosen:
            size = each.parameter.shape[axis]
            slices.append(Slices(each.name, axis, torch.arange(count, count + size)))
            count += size
        return slices, count

    return slices_along


def layers(about: Penalized) -> tuple[list[Slices], int]:
    """All the weights of a layer."""
    slices = [
        Slices(each.name, 0, torch.full((len(each.parameter),), number, dtype=torch.int64))
        for number, each in enumerate(about.chosen)
    ]
    return slices, len(slices)


GROUPS: Mapping[str, Callable[[Penalized], tuple[list[Slices], int]]] = {
    "coupled": coupled,
    "filters": along(0),
    "channels": along(1),
    "layers": layers,
}

PENALTIES: Mapping[str, Make] = {
    "l1": l1,
    "l2": l2,
    "slimming": slimming,
    "group_lasso": group_lasso,
    "growing": growing,
}
