"""What is learnt while a graph is run on labels: classes, slots, and where each weight is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import torch
from torch import Tensor

from mcomp_stages.methods.pruning.label_tensors import (
    Labels,
    broadcast,
    constant_axes,
    core,
    narrowed,
    unlabelled,
)
from mcomp_stages.methods.pruning.union_find import UnionFind

Slot: TypeAlias = tuple[str, int]


@dataclass(frozen=True)
class Stored:
    """A parameter or buffer of the model, by the one name under which all its aliases are known."""

    name: str
    shape: tuple[int, ...]
    trainable: bool


@dataclass(frozen=True)
class Layer:
    """One use of a weight: each of its elements is multiplied `positions` times per sample."""

    weight: str
    positions: int


@dataclass
class Axis:
    """The labels (size of the axis,) of one axis of a parameter; `output` if it makes the channels."""

    labels: Labels
    output: bool


class Trace:
    """What is known of the labels while a graph is run: their classes, the slots, the multiply-adds."""

    def __init__(self) -> None:
        self.classes = UnionFind()
        self.classes.add(1)  # FROZEN
        self.axes: dict[Slot, Axis] = {}
        self.layers: list[Layer] = []
        self.unknown: list[str] = []
        self.constraints: list[Callable[[], bool]] = []
        self._elements: dict[str, Labels] = {}

    def fresh(self, *shape: int) -> Labels:
        """Return new labels, each in a class of its own."""
        return torch.from_numpy(self.classes.add(prod(shape))).reshape(shape)

    def labels_of(self, value: Any) -> Labels:
        """Return the labels of an argument; a parameter that is used as data has one for each element."""
        if isinstance(value, Tensor):
            return value
        if isinstance(value, Stored):
            return self._parameter_labels(value) if value.trainable else unlabelled(value.shape)
        return unlabelled(())

    def _parameter_labels(self, stored: Stored) -> Labels:
        if stored.name not in self._elements:
            labels = self.fresh(*stored.shape)
            self._elements[stored.name] = labels
            self.constraints.append(lambda: self._keep_one_varying_axis(labels))
        return self._elements[stored.name]

    def _keep_one_varying_axis(self, labels: Labels) -> bool:
        return len(self.varying(labels)) > 1 and self.freeze(labels)

    def roots(self, labels: Labels) -> Labels:
        """Return the representative of each label's class, constant along the same axes."""
        inner = core(labels)
        return torch.from_numpy(self.classes.find(inner.numpy())).expand(labels.shape)

    def varies(self, labels: Labels, axis: int) -> bool:
        """Return whether there is more than one class along an axis."""
        if labels.stride(axis) == 0 or labels.shape[axis] == 1:
            return False
        roots = core(self.roots(labels))
        return bool((roots != roots.narrow(axis, 0, 1)).any())

    def varying(self, labels: Labels) -> list[int]:
        """Return the axes along which there is more than one class."""
        return [axis for axis in range(labels.ndim) if self.varies(labels, axis)]

    def unite(self, first: Labels, second: Labels) -> bool:
        """Put the labels that meet under broadcasting into one class; return whether anything changed."""
        first, second = broadcast(first, second)
        shared = [axis for axis in constant_axes(first) if axis in constant_axes(second)]
        return self.classes.union(narrowed(first, shared).numpy(), narrowed(second, shared).numpy())

    def freeze(self, labels: Labels) -> bool:
        """Make the channels behind the labels stay; return whether anything changed."""
        return self.unite(labels, unlabelled(()))

    def freeze_varying(self, labels: Labels, axes: Iterable[int]) -> bool:
        """Freeze labels that differ along one of the axes."""
        return any(self.varies(labels, axis) for axis in axes) and self.freeze(labels)

    def tie(self, labels: Labels, axes: Sequence[int]) -> Labels:
        """Unite along the axes; return the labels made constant there."""
        constant = labels
        for axis in axes:
            constant = constant.narrow(axis, 0, 1)
        constant = constant.expand(labels.shape)
        self.unite(labels, constant)
        return constant

    def along(self, labels: Labels, axis: int) -> Labels:
        """Return one label for each index of an axis (size,), uniting over all the other axes."""
        axis %= labels.ndim
        others = [other for other in range(labels.ndim) if other != axis]
        return narrowed(self.tie(labels, others), others).reshape(-1)

    def own(self, stored: Stored, axis: int, labels: Labels, *, output: bool) -> None:
        """Let the indices of a parameter's axis stand for `labels` (size of the axis,)."""
        known = self.axes.setdefault((stored.name, axis), Axis(labels, output))
        known.output |= output
        self.unite(known.labels, labels)

    def count(self, weight: Stored, positions: int) -> None:
        """Record one use of a weight for the multiply-adds."""
        self.layers.append(Layer(weight.name, positions))

    def settle(self) -> None:
        """Apply what depends on the final classes; then let parameters used as data own their slots."""
        for name, labels in self._elements.items():
            if any(owner == name for owner, _ in self.axes):
                self.freeze(labels)
                self._freeze_axes(name)
        while any(constraint() for constraint in self.constraints):
            pass
        for name, labels in self._elements.items():
            for axis in self.varying(labels):
                self.axes[name, axis] = Axis(self.along(labels, axis), output=False)

    def _freeze_axes(self, name: str) -> None:
        for (owner, _), axis in self.axes.items():
            if owner == name:
                self.freeze(axis.labels)
