"""Reshaping labels: an axis of channels that is split must be cut as a rectangle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from mcomp.model.graph import module_path
from mcomp_stages.methods.pruning.label_tensors import Labels, compressed
from mcomp_stages.methods.pruning.labels import Call
from mcomp_stages.methods.pruning.recorded import Order, Sized
from mcomp_stages.methods.pruning.trace import Trace


def reshape(trace: Trace, call: Call) -> Labels:
    """View the labels in the new shape.

    After a cut the model views a smaller tensor in the same way, which works only if what stays is a
    rectangle of the new axes. Which axes still tell channels apart is known at the end, so that is when it
    is required.
    """
    labels = call.labels("self")
    result = compressed(labels.reshape(call.shape))
    for axes in split_axes(labels.shape, call.shape):
        trace.require(Order.TIE, partial(require_rectangle, trace, result, axes))
    remember(trace, call, result, [axis for axis in range(result.ndim) if axis not in inferred(call)])
    return result


def inferred(call: Call) -> list[int]:
    """Return the axis whose size the code leaves open (-1), if there is one."""
    sizes = call.arguments.get("size", call.arguments.get("shape", ()))
    return [axis for axis, size in enumerate(sizes) if size == -1]


def remember(trace: Trace, call: Call, labels: Labels, axes: Iterable[int]) -> None:
    """Note that the module of this call may hold the sizes of these axes as numbers."""
    path = module_path(call.node)
    trace.sizes += [Sized(path, labels, axis) for axis in axes if labels.shape[axis] > 1]


def require_rectangle(trace: Trace, labels: Labels, axes: Sequence[int]) -> bool:
    """Tie all but the last of the axes along which classes vary; return whether anything changed."""
    varying = [axis for axis in axes if trace.varies(labels, axis)]
    for axis in varying[:-1]:
        trace.tie(labels, [axis])
    return len(varying) > 1


def split_axes(old: Sequence[int], new: Sequence[int]) -> Iterator[list[int]]:
    """Yield the new axes that split an old axis, together: (2, 12, 5) -> (2, 3, 4, 5) gives [1, 2]."""
    for new_axes in aligned_runs(old, new):
        wide = [axis for axis in new_axes if new[axis] > 1]
        if len(wide) > 1:
            yield wide


def aligned_runs(old: Sequence[int], new: Sequence[int]) -> Iterator[list[int]]:
    """Yield the shortest runs of new axes that hold as many elements as a run of old axes."""
    run: list[int] = []
    old_count = new_count = 1
    position = 0
    for axis, size in enumerate(new):
        run.append(axis)
        new_count *= size
        while old_count < new_count:
            old_count *= old[position]
            position += 1
        if old_count == new_count:
            yield run
            run, old_count, new_count = [], 1, 1
