"""Groups of channels: slices of parameters that can only be cut together.

Source: dependency groups, Fang et al. 2023, arXiv:2301.12900 (section 3.2).
Differs: a group is a class of labels of the executed graph (`labels.py`), not a walk over pairs of layers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from torch import Tensor, nn
from torch.fx import GraphModule

from mcomp.model.graph import capture
from mcomp.model.select import select_modules
from mcomp_stages.methods.pruning.label_tensors import FROZEN
from mcomp_stages.methods.pruning.labels import trace_labels
from mcomp_stages.methods.pruning.operators import rule_of
from mcomp_stages.methods.pruning.trace import Layer, Trace
from mcomp_stages.methods.pruning.union_find import Integers

STAYS = -1


@dataclass(frozen=True)
class GroupedAxis:
    """One axis of a parameter or buffer: `groups` (size of the axis,) holds each index's group, or STAYS.

    `output` marks the axis that makes channels, as against one that reads them.
    """

    name: str
    axis: int
    groups: Integers
    output: bool


@dataclass(frozen=True)
class GroupSet:
    """Groups that cut the same axes equally often, so that any of them is as expensive as another.

    `axes` pairs the position of an axis in `Groups.axes` with the number of its indices that one group
    holds.
    """

    groups: Integers
    axes: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Groups:
    """The groups 0..num_groups-1 of a model, and what its size and multiply-adds depend on.

    `shapes` has every parameter once, whatever the number of its names. `unknown` names the operators
    without a rule, whose channels stay.
    """

    axes: tuple[GroupedAxis, ...]
    sets: tuple[GroupSet, ...]
    num_groups: int
    layers: tuple[Layer, ...]
    shapes: Mapping[str, tuple[int, ...]]
    unknown: tuple[str, ...] = ()


def channel_groups(module: nn.Module, example: Mapping[str, Tensor], skip: Sequence[str] = ()) -> Groups:
    """Return the groups of a model.

    The layers that match the patterns `skip` keep all their output channels. Raises StageError if the model
    cannot be captured or a pattern matches nothing.
    """
    return graph_groups(capture(module, example, dynamic_batch=False), module, select_modules(module, skip))


def graph_groups(graph: GraphModule, module: nn.Module, skipped: Sequence[str] = ()) -> Groups:
    """Return the groups of a captured graph; modules at the paths `skipped` keep their channels."""
    trace = trace_labels(graph, tensor_names(module), rule_of)
    for (name, _), axis in trace.axes.items():
        if axis.output and within(name, skipped):
            trace.freeze(axis.labels)
    trace.settle()
    shapes = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
    axes, num_groups = grouped_axes(trace)
    return Groups(axes, group_sets(axes), num_groups, tuple(trace.layers), shapes, tuple(trace.unknown))


def tensor_names(module: nn.Module) -> dict[int, str]:
    """Return the first name of each parameter and buffer by its identity: tied tensors have one."""
    return {id(tensor): name for name, tensor in chain(module.named_parameters(), module.named_buffers())}


def within(name: str, paths: Sequence[str]) -> bool:
    """Return whether a tensor belongs to one of the modules or to a part of it."""
    return any(name.startswith(f"{path}.") for path in paths)


def grouped_axes(trace: Trace) -> tuple[tuple[GroupedAxis, ...], int]:
    """Number the classes of a settled trace; a class that no layer makes channels for is no group."""
    roots = {slot: trace.roots(axis.labels).numpy() for slot, axis in trace.axes.items()}
    made = [roots[slot] for slot, axis in trace.axes.items() if axis.output]
    classes = np.setdiff1d(np.concatenate(made), [FROZEN]) if made else np.zeros(0, dtype=np.int64)
    axes = []
    for (name, axis), values in roots.items():
        position = np.searchsorted(classes, values).clip(max=max(len(classes) - 1, 0))
        known = classes[position] == values if len(classes) else np.zeros(len(values), dtype=bool)
        if known.any():
            groups = np.where(known, position, STAYS)
            axes.append(GroupedAxis(name, axis, groups, trace.axes[name, axis].output))
    return tuple(axes), len(classes)


def group_sets(axes: Sequence[GroupedAxis]) -> tuple[GroupSet, ...]:
    """Put groups that hold equally many indices of the same axes into one set."""
    signatures: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for position, axis in enumerate(axes):
        groups, counts = np.unique(axis.groups[axis.groups != STAYS], return_counts=True)
        for group, count in zip(groups.tolist(), counts.tolist(), strict=True):
            signatures[group].append((position, count))
    members: dict[tuple[tuple[int, int], ...], list[int]] = defaultdict(list)
    for group in sorted(signatures):
        members[tuple(signatures[group])].append(group)
    return tuple(GroupSet(np.array(groups), signature) for signature, groups in members.items())
