"""Labels through operators that combine elements that stand in the same place."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from mcomp_stages.methods.pruning.label_tensors import Labels, broadcast, constant_axes, unlabelled
from mcomp_stages.methods.pruning.labels import Call
from mcomp_stages.methods.pruning.recorded import Order, Stored
from mcomp_stages.methods.pruning.trace import Trace

aten = torch.ops.aten

# Functions behind which a channel is active or not.
ACTIVATIONS = {
    *(
        aten.relu.default,
        aten.relu_.default,
        aten.relu6.default,
        aten.hardtanh.default,
        aten.hardtanh_.default,
    ),
    *(
        aten.gelu.default,
        aten.silu.default,
        aten.silu_.default,
        aten.hardswish.default,
        aten.hardswish_.default,
    ),
    *(aten.leaky_relu.default, aten.leaky_relu_.default, aten.elu.default, aten.elu_.default),
}


def elementwise(trace: Trace, call: Call) -> Labels:
    """Unite the labels that meet under broadcasting."""
    values = call.tensors()
    if not values:
        return unlabelled(call.shape)
    labels = [aligned(trace.labels_of(value), call.shape) for value in values]
    known = [trace.labelled(part) for part in labels]
    learned = [isinstance(value, Stored) for value in values]
    result = first_labels(labels, known, learned)
    for part, is_known, is_learned in zip(labels, known, learned, strict=True):
        if not is_known:
            trace.require(Order.FREEZE, partial(meet_data, trace, result, part))
        elif is_learned and any(part.shape[axis] == 1 for axis in trace.varying(result)):
            trace.choose(partial(meet_parameter, trace, result, part))
        else:
            trace.unite(result, part)
            result = labels_of_larger(result, part)
    result = result.expand(call.shape)
    if call.node.target in ACTIVATIONS:
        trace.activations[call.node.name] = result
    return result


def first_labels(labels: Sequence[Labels], known: Sequence[bool], learned: Sequence[bool]) -> Labels:
    """Return the labels that the others join: those of an activation if there are any."""
    ranked = sorted(range(len(labels)), key=lambda position: (not known[position], learned[position]))
    return labels[ranked[0]]


def meet_parameter(trace: Trace, labels: Labels, parameter: Labels) -> None:
    """Let a parameter that is the same for several channels (a scale inside of each head) follow them, or
    not.

    It follows if its own axis still tells channels apart. If only the axis over which it is repeated does,
    whole heads are cut and the parameter stays as it is.
    """
    if any(parameter.shape[axis] > 1 for axis in trace.varying(labels)):
        trace.unite(labels, parameter)


def aligned(labels: Labels, shape: tuple[int, ...]) -> Labels:
    """Return the labels with leading axes of size 1, as broadcasting sees them."""
    return labels[(None,) * (len(shape) - labels.ndim)]


def labels_of_larger(first: Labels, second: Labels) -> Labels:
    """Return labels of the broadcast shape; where both have an axis they are already one class."""
    first, second = broadcast(first, second)
    return first if len(constant_axes(first)) <= len(constant_axes(second)) else second


def meet_data(trace: Trace, labels: Labels, data: Labels) -> bool:
    """Combine channels with data that has none (a mask, a constant table).

    The data has a size of its own along some axes. The channels are tied there and stay free along the
    others; if no other axis tells channels apart, they cannot shrink. Returns whether anything changed.
    """
    varying = trace.varying(labels)
    fixed = [axis for axis in varying if data.shape[axis] > 1]
    if not fixed:
        return False
    if fixed == varying:
        return trace.freeze(labels)
    trace.tie(labels, fixed)
    return True
