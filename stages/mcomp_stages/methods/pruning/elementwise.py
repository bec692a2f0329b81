"""Labels through operators that combine elements that stand in the same place."""

from __future__ import annotations

from mcomp_stages.methods.pruning.label_tensors import FROZEN, Labels, broadcast, constant_axes, unlabelled
from mcomp_stages.methods.pruning.labels import Call
from mcomp_stages.methods.pruning.trace import Trace


def elementwise(trace: Trace, call: Call) -> Labels:
    """Unite the labels that meet under broadcasting."""
    parts = [aligned(trace.labels_of(value), call.shape) for value in call.tensors()]
    if not parts:
        return unlabelled(call.shape)
    labelled = [part for part in parts if bool((trace.roots(part) != FROZEN).any())]
    result = labelled[0] if labelled else parts[0]
    for part in labelled[1:]:
        trace.unite(result, part)
        result = labels_of_larger(result, part)
    for part in parts:
        if not any(part is other for other in labelled):
            meet_data(trace, result, part)
    return result.expand(call.shape)


def aligned(labels: Labels, shape: tuple[int, ...]) -> Labels:
    """Return the labels with leading axes of size 1, as broadcasting sees them."""
    return labels[(None,) * (len(shape) - labels.ndim)]


def labels_of_larger(first: Labels, second: Labels) -> Labels:
    """Return labels of the broadcast shape; where both have an axis they are already one class."""
    first, second = broadcast(first, second)
    return first if len(constant_axes(first)) <= len(constant_axes(second)) else second


def meet_data(trace: Trace, labels: Labels, data: Labels) -> None:
    """Combine channels with data that has none (a mask, a constant table).

    The data has a size of its own along some axes. The channels are tied there and stay free along the
    others; if no other axis tells channels apart, they cannot shrink.
    """
    varying = trace.varying(labels)
    fixed = [axis for axis in varying if data.shape[axis] > 1]
    if fixed == varying:
        trace.freeze_varying(labels, fixed)
    else:
        trace.tie(labels, fixed)
