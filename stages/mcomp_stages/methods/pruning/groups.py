"""Groups of channels: slices of parameters that can only be cut together.

Source: dependency groups, Fang et al. 2023, arXiv:2301.12900 (section 3.2).
Differs: a group is a class of labels of the executed graph (`labels.py`), not a walk over pairs of layers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from torch import Tensor, nn
from torch.fx import GraphModule

from mcomp.model.graph import capture
from mcomp.model.select import select_modules
from mcomp_stages.methods.pruning.label_tensors import FROZEN, Labels, constant_axes, narrowed
from mcomp_stages.methods.pruning.labels import trace_labels
from mcomp_stages.methods.pruning.operators import rule_of
from mcomp_stages.methods.pruning.recorded import Layer
from mcomp_stages.methods.pruning.trace import Trace
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
class GroupedProduct:
    """A product of activations: `macs` per sample for each index whose group (N,) stays, or STAYS."""

    groups: Integers
    macs: float


@dataclass(frozen=True)
class GroupedSize:
    """An axis of an activation whose size the module at `path` may hold as a number.

    `groups` (..., size, ...) has size 1 along the axes where nothing changes, but not along `axis`.
    """

    path: str
    groups: Integers
    axis: int


@dataclass(frozen=True)
class Groups:
    """The groups 0..num_groups-1 of a model, and what its size and multiply-adds depend on.

    `graph` is what they were found in. `shapes` has every parameter once, whatever the number of its names.
    `statistics` has the axis and the groups along it that a norm or reduction goes over, by the name of its
    node. `equal_counts` names the weights of grouped convolutions whose groups all shrink alike. `unknown`
    names the operators without a rule, whose channels stay.
    """

    axes: tuple[GroupedAxis, ...]
    sets: tuple[GroupSet, ...]
    num_groups: int
    layers: tuple[Layer, ...]
    shapes: Mapping[str, tuple[int, ...]]
    products: tuple[GroupedProduct, ...] = ()
    graph: GraphModule | None = None
    sizes: tuple[GroupedSize, ...] = ()
    statistics: Mapping[str, tuple[int, Integers]] = field(default_factory=dict)
    equal_counts: frozenset[str] = frozenset()
    unknown: tuple[str, ...] = ()


def channel_groups(module: nn.Module, example: Mapping[str, Tensor], skip: Sequence[str] = ()) -> Groups:
    """Return the groups of a model.

    The layers that match the patterns `skip` keep all their output channels. Raises StageError if the model
    cannot be captured or a pattern matches nothing.
    """
    skipped = (*select_modules(module, skip), *uncuttable_attention(module))
    return graph_groups(capture(module, example, dynamic_batch=False), module, skipped)


def uncuttable_attention(module: nn.Module) -> list[str]:
    """Return the paths of torch attention with keys beside those of the input; it has no cuttable form."""
    attention = (
        (path, part) for path, part in module.named_modules() if isinstance(part, nn.MultiheadAttention)
    )
    return [path for path, part in attention if part.bias_k is not None or part.add_zero_attn]


def graph_groups(graph: GraphModule, module: nn.Module, skipped: Sequence[str] = ()) -> Groups:
    """Return the groups of a captured graph; modules at the paths `skipped` keep their channels."""
    trace = trace_labels(graph, tensor_names(module), rule_of)
    for (name, _), axis in trace.axes.items():
        if axis.output and within(name, skipped):
            trace.freeze(axis.labels)
    trace.settle()
    number = Numbering(trace)
    axes = number.axes()
    return Groups(
        axes=axes,
        sets=group_sets(axes),
        num_groups=number.num_groups,
        layers=tuple(trace.layers),
        graph=graph,
        products=tuple(GroupedProduct(number.of(each.labels), each.macs) for each in trace.products),
        shapes={name: tuple(parameter.shape) for name, parameter in module.named_parameters()},
        sizes=tuple(number.sizes()),
        statistics={name: (axis, number.of(labels)) for name, (axis, labels) in trace.statistics.items()},
        equal_counts=frozenset(trace.equal_counts),
        unknown=tuple(trace.unknown),
    )


def tensor_names(module: nn.Module) -> dict[int, str]:
    """Return the first name of each parameter and buffer by its identity: tied tensors have one."""
    return {id(tensor): name for name, tensor in chain(module.named_parameters(), module.named_buffers())}


def within(name: str, paths: Sequence[str]) -> bool:
    """Return whether a tensor belongs to one of the modules or to a part of it."""
    return any(name.startswith(f"{path}.") for path in paths)


class Numbering:
    """Numbers the classes of a settled trace; a class that no layer makes channels for is no group."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        made = [trace.roots(axis.labels).numpy() for axis in trace.axes.values() if axis.output]
        self._classes = np.setdiff1d(np.concatenate(made), [FROZEN]) if made else np.zeros(0, dtype=np.int64)
        self.num_groups = len(self._classes)

    def of(self, labels: Labels) -> Integers:
        """Return the group of each label, or STAYS."""
        roots = self._trace.roots(labels).numpy()
        if not self.num_groups:
            return np.full(roots.shape, STAYS)
        position = np.searchsorted(self._classes, roots).clip(max=self.num_groups - 1)
        return np.where(self._classes[position] == roots, position, STAYS)

    def axes(self) -> tuple[GroupedAxis, ...]:
        """Return the axes that have a group."""
        numbered = (
            GroupedAxis(name, axis, self.of(known.labels), known.output)
            for (name, axis), known in self._trace.axes.items()
        )
        return tuple(axis for axis in numbered if (axis.groups != STAYS).any())

    def sizes(self) -> Iterator[GroupedSize]:
        """Return the sizes that modules may remember, of axes that can and that cannot shrink."""
        for sized in self._trace.sizes:
            constant = [axis for axis in constant_axes(sized.labels) if axis != sized.axis]
            yield GroupedSize(sized.path, self.of(narrowed(sized.labels, constant)), sized.axis)


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
