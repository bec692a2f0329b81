"""What a run on labels meets and writes down: parameters, their axes, uses of weights, sizes in the code."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TypeAlias

from mcomp_stages.methods.pruning.label_tensors import Labels

Slot: TypeAlias = tuple[str, int]


@dataclass(frozen=True)
class Stored:
    """A parameter or buffer of the model, by the one name under which all its aliases are known.

    A part of one (`in_proj_weight.chunk(3)`) has the `shape` of the part and starts at row `start` of the
    whole, which has `num_rows` rows.
    """

    name: str
    shape: tuple[int, ...]
    trainable: bool
    start: int = 0
    num_rows: int = 0

    def rows(self, start: int, stop: int) -> Stored:
        """Return a part along the first axis."""
        shape = (stop - start, *self.shape[1:])
        return replace(self, shape=shape, start=self.start + start, num_rows=self.whole_rows)

    @property
    def whole_rows(self) -> int:
        """The rows of the parameter that this is, or is a part of."""
        return self.num_rows or self.shape[0]

    @property
    def is_part(self) -> bool:
        """Whether this is only some rows of the parameter."""
        return bool(self.num_rows)


@dataclass(frozen=True)
class Layer:
    """One use of a weight: each of its elements is multiplied `positions` times per sample."""

    weight: str
    positions: float


@dataclass(frozen=True)
class Product:
    """Multiply-adds of activations with each other: `macs` per sample for each index that stays (N,)."""

    labels: Labels
    macs: float


@dataclass(frozen=True)
class Sized:
    """A size along `axis` of `labels` that the module at `path` may remember as a number."""

    path: str
    labels: Labels
    axis: int


class Order(IntEnum):
    """When a constraint is looked at: only when no earlier one changes anything any more."""

    TIE = 0  # what must be one class whatever else happens
    CHOOSE = 1  # there are two ways to stay valid; which is better depends on the ties
    FREEZE = 2  # what cannot shrink if it still tells channels apart


@dataclass
class Axis:
    """The labels (size of the axis,) of one axis of a parameter; `output` if it makes the channels."""

    labels: Labels
    output: bool
