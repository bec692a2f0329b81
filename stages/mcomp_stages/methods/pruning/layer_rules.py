"""Labels through layers that own parameters: each index of an axis of a weight stands for a label."""

from __future__ import annotations

from math import prod

import torch

from mcomp_stages.methods.pruning.label_tensors import Labels
from mcomp_stages.methods.pruning.labels import Call, unknown_layer
from mcomp_stages.methods.pruning.trace import Trace


def convolution(trace: Trace, call: Call) -> Labels:
    """Dense: fresh channels. Grouped (also depthwise): inputs and outputs of one group go as a whole."""
    weight = call.stored("weight")
    if weight is None or not weight.trainable:
        return unknown_layer(trace, call)
    inputs = trace.along(call.labels("input"), 1)
    outputs = trace.fresh(weight.shape[0])
    num_groups = call.arguments.get("groups", 1)
    if num_groups == 1:
        trace.own(weight, 1, inputs, output=False)
    else:
        groups = torch.cat([inputs.view(num_groups, -1), outputs.view(num_groups, -1)], dim=1)
        trace.tie(groups, [1])
    trace.own(weight, 0, outputs, output=True)
    trace.count(weight, prod(call.shape) // call.shape[1] // call.shape[0])
    return channels(call, bias(trace, call, outputs), axis=1)


def transposed_convolution(trace: Trace, call: Call) -> Labels:
    """As a dense convolution with the axes of the weight swapped; grouped ones stay as they are."""
    weight = call.stored("weight")
    if weight is None or not weight.trainable or call.arguments.get("groups", 1) != 1:
        return unknown_layer(trace, call)
    features = call.labels("input")
    outputs = trace.fresh(weight.shape[1])
    trace.own(weight, 0, trace.along(features, 1), output=False)
    trace.own(weight, 1, outputs, output=True)
    trace.count(weight, prod(features.shape[2:]))
    return channels(call, bias(trace, call, outputs), axis=1)


def linear(trace: Trace, call: Call) -> Labels:
    """Fresh channels on the last axis."""
    weight = call.stored("weight")
    if weight is None or not weight.trainable:
        return unknown_layer(trace, call)
    outputs = trace.fresh(weight.shape[0])
    trace.own(weight, 1, trace.along(call.labels("input"), -1), output=False)
    trace.own(weight, 0, outputs, output=True)
    trace.count(weight, prod(call.shape[1:-1]))
    return channels(call, bias(trace, call, outputs), axis=-1)


def addmm(trace: Trace, call: Call) -> Labels:
    """A linear whose weight is stored as (inputs, outputs), with its bias in front."""
    weight = call.stored("mat2")
    if weight is None or not weight.trainable or call.stored("self") is None:
        return unknown_layer(trace, call)
    outputs = trace.fresh(weight.shape[1])
    trace.own(weight, 0, trace.along(call.labels("mat1"), -1), output=False)
    trace.own(weight, 1, outputs, output=True)
    trace.count(weight, 1)
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


def batch_norm(trace: Trace, call: Call) -> Labels:
    """Each channel has its own scale, shift and statistics."""
    features = call.labels("input")
    labels = trace.along(features, 1)
    for name in ("weight", "bias", "running_mean", "running_var"):
        stored = call.stored(name)
        if stored is not None:
            trace.own(stored, 0, labels, output=True)
    return channels(call, labels, axis=1)


def group_norm(trace: Trace, call: Call) -> Labels:
    """Statistics are shared by a group of channels, so a group is cut as a whole."""
    labels = trace.along(call.labels("input"), 1)
    trace.tie(labels.view(call.arguments["num_groups"], -1), [1])
    for name in ("weight", "bias"):
        stored = call.stored(name)
        if stored is not None:
            trace.own(stored, 0, labels, output=True)
    return channels(call, labels, axis=1)


def prelu(trace: Trace, call: Call) -> Labels:
    """One slope for all channels, or one for each."""
    features = call.labels("self")
    slope = call.stored("weight")
    if slope is None:
        return unknown_layer(trace, call)
    if slope.shape == (1,):
        return features
    labels = trace.along(features, 1)
    trace.own(slope, 0, labels, output=False)
    return channels(call, labels, axis=1)
