"""What is known of the groups of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch.fx import GraphModule

from mcomp_stages.methods.pruning.config import Unit
from mcomp_stages.methods.pruning.recorded import Layer
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

    `axes` pairs the position of an axis in `Groups.axes` with the number of its indices that one group holds.
    `layers` are the paths of the modules that make the channels. `unit` says what a group is: `filters` of a
    convolution, `neurons` of a linear, `heads` of attention, or channels that several layers share (`width`).
    """

    groups: Integers
    axes: tuple[tuple[int, int], ...]
    layers: tuple[str, ...] = ()
    unit: Unit = "filters"


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
    node, `activations` the same of what activation functions give. `equal_counts` names the weights of
    grouped convolutions whose groups all shrink alike. `unknown` names the operators without a rule, whose
    channels stay.
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
    activations: Mapping[str, tuple[int, Integers]] = field(default_factory=dict)
    equal_counts: frozenset[str] = frozenset()
    unknown: tuple[str, ...] = ()
