"""Labels through operators that take parts by their positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mcomp_stages.methods.pruning.label_tensors import Labels, compressed, split
from mcomp_stages.methods.pruning.labels import Call
from mcomp_stages.methods.pruning.recorded import Stored
from mcomp_stages.methods.pruning.shape_rules import listed
from mcomp_stages.methods.pruning.trace import Trace
from mcomp_stages.methods.pruning.views import remember


def divided(trace: Trace, call: Call) -> list[Any]:
    """Equal parts stay equal: position j is tied across them. Unequal parts freeze."""
    axis = int(call.arguments.get("dim", 0))
    stored = call.stored("self")
    if stored is not None and stored.trainable and axis == 0:
        return stored_parts(stored, [part.shape[0] for part in call.node.meta["val"]])
    labels = call.labels("self")
    parts = list(call.run())
    if len({part.shape[axis] for part in parts}) == 1:
        for part in parts[1:]:
            trace.unite(parts[0], part)
        remember(trace, call, parts[0], [axis % labels.ndim])
    else:
        trace.freeze_varying(labels, [axis])
    return [compressed(part) for part in parts]


def stored_parts(stored: Stored, sizes: Sequence[int]) -> list[Stored]:
    """Return the parts of a parameter that is divided along its rows."""
    parts, start = [], 0
    for size in sizes:
        parts.append(stored.rows(start, start + size))
        start += size
    return parts


def sliced(trace: Trace, call: Call) -> Any:
    """A slice that is one of several equal parts ties position j across the parts; any other one freezes."""
    axis = int(call.arguments.get("dim", 0))
    stored = call.stored("self")
    size = stored.shape[axis] if stored is not None else call.labels("self").shape[axis]
    start, stop = bounds(call.arguments, size)
    if call.arguments.get("step", 1) == 1:
        if (start, stop) == (0, size):
            return stored or call.labels("self")
        if stored is not None and stored.trainable and axis == 0:
            return stored.rows(start, stop)
    labels = call.labels("self")
    result = call.run()
    length = stop - start
    if stored is None and call.arguments.get("step", 1) == 1 and start % length == size % length == 0:
        axis %= labels.ndim
        trace.tie(split(labels, axis, length), [axis])
        remember(trace, call, result, [axis])
    else:
        picked(trace, labels, [axis], stored)
    return compressed(result)


def bounds(arguments: Any, size: int) -> tuple[int, int]:
    """Return the first position of a slice and the one behind its last."""
    start, stop = arguments.get("start"), arguments.get("end")
    if "length" in arguments:
        stop = start + arguments["length"]
    inside = slice(start, stop).indices(size)
    return inside[0], max(inside[1], inside[0] + 1)


def addressed(trace: Trace, call: Call) -> Any:
    """Positions that the code or the data names (`x[:, 0]`, `roll`, a table) would be others after a cut."""
    stored = call.stored("self")
    labels = call.labels("self")
    axes = listed(call.arguments.get("dim", call.arguments.get("dims", 0)), labels.ndim)
    picked(trace, labels, axes, stored)
    result = call.run()
    return [compressed(part) for part in result] if isinstance(result, list | tuple) else compressed(result)


def indexed(trace: Trace, call: Call) -> Labels:
    """`x[index]`, also several; the positions come from the data."""
    indices = call.arguments["indices"]
    axes = [axis for axis, index in enumerate(indices) if index is not None]
    for index in indices:
        if isinstance(index, Tensor):
            trace.freeze(index)
    labels = call.labels("self")
    picked(trace, labels, axes, call.stored("self"))
    return compressed(call.run())  # the labels of an index are 0, which is a position that exists


def gathered(trace: Trace, call: Call) -> Labels:
    """One position of an axis for each element of the result."""
    labels, index = call.labels("self"), call.labels("index")
    trace.freeze(index)
    picked(trace, labels, [int(call.arguments["dim"])], call.stored("self"))
    return compressed(call.run())


def picked(trace: Trace, labels: Labels, axes: Sequence[int], stored: Stored | None) -> None:
    """Channels along axes that are picked from stay; the rows of a table of parameters are no channels."""
    if stored is not None and stored.trainable:
        trace.tie(labels, [axis % labels.ndim for axis in axes])
    else:
        trace.freeze_varying(labels, axes)
