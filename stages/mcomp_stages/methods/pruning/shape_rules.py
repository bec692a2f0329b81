"""Labels through operators that move, join, divide and reduce; most are executed on the labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mcomp_stages.methods.pruning.label_tensors import (
    Labels,
    compressed,
    constant_axes,
    narrowed,
    split,
    unlabelled,
)
from mcomp_stages.methods.pruning.labels import Call
from mcomp_stages.methods.pruning.trace import Trace


def executed(trace: Trace, call: Call) -> Labels:
    """Move labels as the operator moves numbers."""
    return compressed(call.run())


def passed(trace: Trace, call: Call, name: str = "self") -> Any:
    """The result has the labels of the argument; a parameter stays the parameter that it is."""
    return call.stored(name) or call.labels(name)


def alike(trace: Trace, call: Call) -> Labels:
    """New numbers in the shape of the argument (`zeros_like`) shrink with it."""
    return call.labels("self")


def constant(trace: Trace, call: Call) -> Labels:
    """New numbers in a shape of their own (`new_zeros`) are data."""
    return unlabelled(call.shape)


def concatenated(trace: Trace, call: Call) -> Labels:
    """Put labels side by side."""
    axis = call.arguments.get("dim", 0) % len(call.shape)
    parts = [trace.labels_of(value) for value in call.arguments["tensors"]]
    shared = [
        a for a in range(len(call.shape)) if a != axis and all(a in constant_axes(part) for part in parts)
    ]
    return torch.cat([narrowed(part, shared) for part in parts], dim=axis).expand(call.shape)


def stacked(trace: Trace, call: Call) -> Labels:
    """Put labels on top of each other."""
    parts = [trace.labels_of(value) for value in call.arguments["tensors"]]
    return compressed(torch.stack(parts, dim=call.arguments.get("dim", 0)))


def padded(trace: Trace, call: Call) -> Labels:
    """Zeros beside a feature map belong to its channel; added channels are frozen."""
    labels = call.labels("self")
    pads = call.arguments["pad"]
    for position in range(len(pads) // 2):
        axis = labels.ndim - 1 - position
        before, after = pads[2 * position], pads[2 * position + 1]
        if trace.varies(labels, axis):
            if min(before, after) < 0:
                trace.freeze(labels)
            labels = widened(labels, axis, before, after)
        else:
            size = labels.shape[axis] + before + after
            labels = labels.narrow(axis, 0, 1).expand(*labels.shape[:axis], size, *labels.shape[axis + 1 :])
    return labels


def widened(labels: Labels, axis: int, before: int, after: int) -> Labels:
    """Return the labels with frozen ones before and after along an axis (negative: cropped)."""
    others = [other for other in constant_axes(labels) if other != axis]
    pads = [0, 0] * (labels.ndim - 1 - axis) + [before, after]
    inner = torch.nn.functional.pad(narrowed(labels, others), pads)
    shape = list(labels.shape)
    shape[axis] += before + after
    return inner.expand(shape)


def shuffled(trace: Trace, call: Call) -> Labels:
    """Neighbouring channels become pixels: those that become one channel go together."""
    labels, factor = call.labels("self"), call.arguments["upscale_factor"] ** 2
    axis = labels.ndim - 3
    trace.tie(split(labels, axis, factor), [axis + 1])
    return compressed(call.run())


def windows(trace: Trace, call: Call) -> Any:
    """Pooling and resampling: positions of a feature map mix, channels do not."""
    labels = call.labels("input") if "input" in call.arguments else call.labels("self")
    if "grid" in call.arguments:
        trace.freeze(call.labels("grid"))
    value = call.node.meta["val"]
    num_spatial = labels.ndim - 2
    spatial = list(range(labels.ndim - num_spatial, labels.ndim))
    one = narrowed(trace.tie(labels, spatial), spatial)
    if isinstance(value, Tensor):
        return one.expand(value.shape)
    return [one.expand(item.shape) for item in value]


def listed(dims: int | Sequence[int] | None, num_axes: int) -> list[int]:
    """Return the axes that an argument names: one, some, or all of them if it is left out."""
    if isinstance(dims, int):
        return [dims]
    return list(dims or range(num_axes))


def nothing(trace: Trace, call: Call) -> None:
    """A check without a result."""


def item(trace: Trace, call: Call) -> Any:
    """Take one of several results."""
    return call.arguments["0"][call.arguments["1"]]
