"""What is learnt while a graph is run on labels: classes, slots, and where each weight is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from mcomp_stages.methods.pruning.label_tensors import (
    FROZEN,
    Labels,
    broadcast,
    constant_axes,
    core,
    narrowed,
    unlabelled,
)
from mcomp_stages.methods.pruning.recorded import Axis, Layer, Order, Product, Sized, Slot, Stored
from mcomp_stages.methods.pruning.union_find import UnionFind


class Trace:
    """What is known of the labels while a graph is run: their classes, the slots, the multiply-adds.

    `batch` is the number of samples that the graph was captured with. `statistics` has, by the name of the
    node of a norm or reduction, the axis and the labels along it: it is taken over the channels that stay.
    `equal_counts` names the weights of grouped convolutions that lose the same positions of every group,
    `carriers` those that lose whole groups and make no channels of their own. `activations` has what
    activation functions give, by the name of the node, and `heads` the labels of heads of attention.
    """

    def __init__(self, batch: int = 1) -> None:
        self.batch = batch
        self.classes = UnionFind()
        self.classes.add(1)  # FROZEN
        self.axes: dict[Slot, Axis] = {}
        self.layers: list[Layer] = []
        self.products: list[Product] = []
        self.sizes: list[Sized] = []
        self.statistics: dict[str, tuple[int, Labels]] = {}
        self.activations: dict[str, Labels] = {}
        self.heads: list[Labels] = []
        self.carriers: set[str] = set()
        self.equal_counts: set[str] = set()
        self.unknown: list[str] = []
        self._constraints: dict[Order, list[Callable[[], bool]]] = {order: [] for order in Order}
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
            labels = self.fresh(stored.whole_rows, *stored.shape[1:]) if stored.shape else self.fresh()
            self._elements[stored.name] = labels
            self.require(Order.FREEZE, lambda: self._keep_one_varying_axis(labels))
        labels = self._elements[stored.name]
        if not stored.is_part:
            return labels
        self.tie(labels, [0])  # the rows that are not read would be channels of nothing
        return labels[stored.start : stored.start + stored.shape[0]]

    def require(self, order: Order, constraint: Callable[[], bool]) -> None:
        """Let `settle` call `constraint`, which returns whether it changed anything, until it does not."""
        self._constraints[order].append(constraint)

    def choose(self, decide: Callable[[], None]) -> None:
        """Call `decide` one time, when everything that has no choice is tied."""
        undecided = [decide]

        def constraint() -> bool:
            if not undecided:
                return False
            undecided.pop()()
            return True

        self.require(Order.CHOOSE, constraint)

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

    def freeze_varying(self, labels: Labels, axes: Iterable[int]) -> None:
        """Freeze labels that in the end still differ along one of the axes."""
        axes = tuple(axes)
        self.require(
            Order.FREEZE,
            lambda: any(self.varies(labels, axis) for axis in axes) and self.freeze(labels),
        )

    def labelled(self, labels: Labels) -> bool:
        """Return whether any of the labels is, as far as known, not frozen."""
        return bool((self.roots(core(labels)) != FROZEN).any())

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
        whole = stored.whole_rows if axis == 0 else stored.shape[axis]
        slot = (stored.name, axis)
        if slot not in self.axes:
            self.axes[slot] = Axis(labels if len(labels) == whole else self.fresh(whole), output)
        known = self.axes[slot]
        known.output |= output
        start = stored.start if axis == 0 else 0
        self.unite(known.labels[start : start + len(labels)], labels)

    def count(self, weight: Stored, positions: float) -> None:
        """Record one use of a weight for the multiply-adds; `positions` are those of all samples."""
        share = weight.shape[0] / weight.whole_rows
        self.layers.append(Layer(weight.name, share * positions / self.batch))

    def settle(self) -> None:
        """Apply what depends on the final classes; then let parameters used as data own their slots."""
        for name, labels in self._elements.items():
            if any(owner == name for owner, _ in self.axes):
                self.freeze(labels)
                self._freeze_axes(name)
        while any(self._changed(order) for order in Order):
            pass
        for name, labels in self._elements.items():
            for axis in self.varying(labels):
                self.axes[name, axis] = Axis(self.along(labels, axis), output=False)

    def _changed(self, order: Order) -> bool:
        return sum(constraint() for constraint in self._constraints[order]) > 0

    def _freeze_axes(self, name: str) -> None:
        for (owner, _), axis in self.axes.items():
            if owner == name:
                self.freeze(axis.labels)
