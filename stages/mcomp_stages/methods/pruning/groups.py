"""Groups of channels: slices of parameters that can only be cut together.

Source: dependency groups, Fang et al. 2023, arXiv:2301.12900 (section 3.2).
Differs: a group is a class of labels of the executed graph (`labels.py`), not a walk over pairs of layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import numpy as np
from torch import Tensor, nn
from torch.fx import GraphModule

from mcomp.errors import StageError
from mcomp.model.graph import capture
from mcomp.model.select import select_modules
from mcomp_stages.methods.pruning.group_records import (
    STAYS,
    GroupedAxis,
    GroupedProduct,
    GroupedSize,
    Groups,
)
from mcomp_stages.methods.pruning.group_sets import Makers, group_sets
from mcomp_stages.methods.pruning.label_tensors import FROZEN, Labels, constant_axes, narrowed
from mcomp_stages.methods.pruning.labels import trace_labels
from mcomp_stages.methods.pruning.operators import rule_of
from mcomp_stages.methods.pruning.trace import Trace
from mcomp_stages.methods.pruning.union_find import Integers


def channel_groups(module: nn.Module, example: Mapping[str, Tensor], skip: Sequence[str] = ()) -> Groups:
    """Return the groups of a model.

    The layers that match the patterns `skip` keep all their output channels. Raises StageError if the model
    cannot be captured, is itself a captured program, or a pattern matches nothing.
    """
    if isinstance(module, GraphModule):
        raise StageError(
            "the model is a captured program, and sizes are written into its graph, which a cut would make "
            "wrong: cut the model that it was captured from"
        )
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
    shapes = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
    weights = {layer.weight for layer in trace.layers} - trace.carriers
    return Groups(
        axes=axes,
        sets=group_sets(axes, Makers(weights, number.members(trace.heads), shapes)),
        num_groups=number.num_groups,
        layers=tuple(trace.layers),
        graph=graph,
        products=tuple(GroupedProduct(number.of(each.labels), each.macs) for each in trace.products),
        shapes=shapes,
        sizes=tuple(number.sizes()),
        statistics={name: (axis, number.of(labels)) for name, (axis, labels) in trace.statistics.items()},
        activations=dict(number.activations()),
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

    def members(self, labels: Sequence[Labels]) -> frozenset[int]:
        """Return the groups that have one of the labels."""
        found = [np.unique(self.of(each)) for each in labels]
        return frozenset(group for each in found for group in each.tolist() if group != STAYS)

    def axes(self) -> tuple[GroupedAxis, ...]:
        """Return the axes that have a group."""
        numbered = (
            GroupedAxis(name, axis, self.of(known.labels), known.output)
            for (name, axis), known in self._trace.axes.items()
        )
        return tuple(axis for axis in numbered if (axis.groups != STAYS).any())

    def activations(self) -> Iterator[tuple[str, tuple[int, Integers]]]:
        """Return the axis of the channels and their groups behind each activation function."""
        for name, labels in self._trace.activations.items():
            varying = self._trace.varying(labels)
            if len(varying) == 1:
                yield name, (varying[0], self.of(self._trace.along(labels, varying[0])))

    def sizes(self) -> Iterator[GroupedSize]:
        """Return the sizes that modules may remember, of axes that can and that cannot shrink."""
        for sized in self._trace.sizes:
            constant = [axis for axis in constant_axes(sized.labels) if axis != sized.axis]
            yield GroupedSize(sized.path, self.of(narrowed(sized.labels, constant)), sized.axis)
