"""What a cut costs and saves, from the number of groups that stay in each set; the model is not run.

Legend: B = cuts compared at once, S = sets, A = grouped axes, P = parameters, L = uses of a weight,
K = most grouped axes that a parameter has.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mcomp_stages.methods.pruning.config import Quantity
from mcomp_stages.methods.pruning.group_records import STAYS, Groups
from mcomp_stages.methods.pruning.union_find import Integers

Floats = NDArray[np.float64]


class Sizes:
    """Multiply-adds per sample, parameters and channels of a model as functions of the kept groups `kept_BS`.

    `macs` are those of convolutions, linears and attention, `params` all parameters, tied ones once,
    `channels` the output channels of convolutions and linears without those that stay anyway.
    """

    def __init__(self, groups: Groups) -> None:
        self.full_S = np.array([len(group_set.groups) for group_set in groups.sets], dtype=np.int64)
        self._fixed_A = np.array([(axis.groups == STAYS).sum() for axis in groups.axes], dtype=np.int64)
        self._indices_AS = indices_per_group(groups)
        self._whole_P, self._axes_PK = factors(groups)
        position_of = {name: position for position, name in enumerate(groups.shapes)}
        self._weights_L = np.array([position_of[layer.weight] for layer in groups.layers], dtype=np.int64)
        self._positions_L = np.array([layer.positions for layer in groups.layers], dtype=np.float64)
        self._macs_1, self._macs_S = product_macs(groups)
        weights = {layer.weight for layer in groups.layers}
        self._made_A = np.array([axis.output and axis.name in weights for axis in groups.axes], dtype=bool)

    def of(self, quantity: Quantity, kept_BS: Integers) -> Floats:
        """Return the quantity for each cut (B,), or for one cut if `kept_BS` is (S,)."""
        cut_BA = kept_BS @ self._indices_AS.T
        if quantity == "channels":
            return np.asarray(cut_BA[..., self._made_A].sum(-1), dtype=np.float64)
        elements_BP = self._elements(self._fixed_A + cut_BA)
        if quantity == "params":
            return np.asarray(elements_BP.sum(-1))
        in_layers_B = elements_BP[..., self._weights_L] @ self._positions_L
        return np.asarray(in_layers_B + kept_BS @ self._macs_S + self._macs_1)

    def share(self, quantity: Quantity, kept_BS: Integers) -> Floats:
        """Return the quantity over that of the whole model."""
        return self.of(quantity, kept_BS) / self.of(quantity, self.full_S)

    def _elements(self, sizes_BA: Integers) -> Floats:
        one_B1 = np.ones((*sizes_BA.shape[:-1], 1))
        padded_BA = np.concatenate([sizes_BA, one_B1], axis=-1)
        return np.asarray(self._whole_P * padded_BA[..., self._axes_PK].prod(-1))


def indices_per_group(groups: Groups) -> Integers:
    """Return how many indices of each axis one group of each set holds (A, S)."""
    indices_AS = np.zeros((len(groups.axes), len(groups.sets)), dtype=np.int64)
    for column, group_set in enumerate(groups.sets):
        for axis, count in group_set.axes:
            indices_AS[axis, column] = count
    return indices_AS


def product_macs(groups: Groups) -> tuple[float, Floats]:
    """Return the multiply-adds of products of activations that stay, and those of one group of each set."""
    by_group = np.zeros(groups.num_groups)
    fixed = 0.0
    for product in groups.products:
        known = product.groups != STAYS
        fixed += float((~known).sum() * product.macs)
        np.add.at(by_group, product.groups[known], product.macs)
    return fixed, np.array([by_group[group_set.groups[0]] for group_set in groups.sets])


def factors(groups: Groups) -> tuple[Floats, Integers]:
    """Return each parameter's number of elements over its other axes (P,), and its grouped axes (P, K).

    A parameter with fewer than K grouped axes points to one more axis, of size 1.
    """
    grouped: dict[str, dict[int, int]] = {name: {} for name in groups.shapes}
    for position, axis in enumerate(groups.axes):
        if axis.name in grouped:
            grouped[axis.name][axis.axis] = position
    widest = max((len(axes) for axes in grouped.values()), default=0)
    whole_P = np.array(
        [
            float(np.prod([size for axis, size in enumerate(shape) if axis not in grouped[name]]))
            for name, shape in groups.shapes.items()
        ]
    )
    axes_PK = np.full((len(grouped), widest), len(groups.axes), dtype=np.int64)
    for row, axes in enumerate(grouped.values()):
        axes_PK[row, : len(axes)] = list(axes.values())
    return whole_P, axes_PK
