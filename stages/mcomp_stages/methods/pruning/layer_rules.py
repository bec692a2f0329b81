"""Labels through layers that make channels: each index of an axis of a weight stands for a label."""

from __future__ import annotations

from math import prod

from mcomp_stages.methods.pruning.grouped import tie_groups
from mcomp_stages.methods.pruning.label_tensors import Labels
from mcomp_stages.methods.pruning.labels import Call, unknown_layer
from mcomp_stages.methods.pruning.trace import Trace


def convolution(trace: Trace, call: Call) -> Labels:
    """Fresh channels; with groups, inputs and outputs are tied so that every group stays as large as the
    others.
    """
    weight = call.stored("weight")
    if weight is None or not weight.trainable:
        return unknown_layer(trace, call)
    inputs = trace.along(call.labels("input"), 1)
    outputs = trace.fresh(weight.shape[0])
    num_groups = call.arguments.get("groups", 1)
    if num_groups == 1:
        trace.own(weight, 1, inputs, output=False)
    else:
        tie_groups(trace, weight, inputs, outputs, num_groups, transposed=False)
    trace.own(weight, 0, outputs, output=True)
    trace.count(weight, prod(call.shape) / call.shape[1])
    return channels(call, bias(trace, call, outputs), axis=1)


def transposed_convolution(trace: Trace, call: Call) -> Labels:
    """As a convolution with the axes of the weight swapped."""
    weight = call.stored("weight")
    if weight is None or not weight.trainable:
        return unknown_layer(trace, call)
    features = call.labels("input")
    inputs = trace.along(features, 1)
    num_groups = call.arguments.get("groups", 1)
    outputs = trace.fresh(weight.shape[1] * num_groups)
    if num_groups == 1:
        trace.own(weight, 1, outputs, output=True)
    else:
        tie_groups(trace, weight, inputs, outputs, num_groups, transposed=True)
    trace.own(weight, 0, inputs, output=False)
    trace.count(weight, prod(features.shape) / features.shape[1])
    return channels(call, bias(trace, call, outputs), axis=1)


def linear(trace: Trace, call: Call) -> Labels:
    """Fresh channels on the last axis."""
    weight = call.stored("weight")
    if weight is None or not weight.trainable:
        return unknown_layer(trace, call)
    outputs = trace.fresh(weight.shape[0])
    trace.own(weight, 1, trace.along(call.labels("input"), -1), output=False)
    trace.own(weight, 0, outputs, output=True)
    trace.count(weight, prod(call.shape) / call.shape[-1])
    return channels(call, bias(trace, call, outputs), axis=-1)


def addmm(trace: Trace, call: Call) -> Labels:
    """A linear whose weight is stored as (inputs, outputs), with its bias in front."""
    weight = call.stored("mat2")
    if weight is None or not weight.trainable or call.stored("self") is None:
        return unknown_layer(trace, call)
    outputs = trace.fresh(weight.shape[1])
    trace.own(weight, 0, trace.along(call.labels("mat1"), -1), output=False)
    trace.own(weight, 1, outputs, output=True)
    trace.count(weight, call.shape[0])
    return channels(call, bias(trace, call, outputs, name="self"), axis=-1)


def bias(trace: Trace, call: Call, outputs: Labels, name: str = "bias") -> Labels:
    """Let the bias, if there is one, own the output channels; a computed bias freezes them."""
    stored = call.stored(name)
    if stored is not None:
        trace.own(stored, 0, outputs, output=True)
    elif call.arguments.get(name) is not None:
        trace.freeze(outputs)
    return outputs


def channels(call: Call, labels: Labels, axis: int) -> Labels:
    """Return a result of the call's shape whose `axis` has these labels."""
    shape = [1] * len(call.shape)
    shape[axis] = -1
    return labels.reshape(shape).expand(call.shape)


def embedding(trace: Trace, call: Call) -> Labels:
    """Fresh channels on the width of the table; its rows are addressed by the data and stay."""
    weight = call.stored("weight")
    if weight is None or not weight.trainable:
        return unknown_layer(trace, call)
    outputs = trace.fresh(weight.shape[1])
    trace.own(weight, 1, outputs, output=True)
    return channels(call, outputs, axis=-1)
