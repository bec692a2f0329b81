"""Labels through norms and reductions.

A norm over channels is taken over those that stay: the cut model normalises fewer numbers, and so does the
masked model that it is compared with.
"""

from __future__ import annotations

from mcomp_stages.methods.pruning.label_tensors import Labels, narrowed, unlabelled
from mcomp_stages.methods.pruning.labels import Call, unknown_layer
from mcomp_stages.methods.pruning.layer_rules import channels
from mcomp_stages.methods.pruning.shape_rules import listed
from mcomp_stages.methods.pruning.trace import Trace


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
    """Statistics are shared by a group, so it is cut as a whole; a single group is like a layer norm."""
    labels = trace.along(call.labels("input"), 1)
    num_groups = call.arguments["num_groups"]
    if num_groups == 1:
        trace.statistics[call.node.name] = (1, labels)
    else:
        trace.tie(labels.view(num_groups, -1), [1])
    own_scale_and_shift(trace, call, labels)
    return channels(call, labels, axis=1)


def layer_norm(trace: Trace, call: Call) -> Labels:
    """Taken over the channels that stay. Over the inside of a head it is no norm over channels: heads go
    whole.
    """
    features = call.labels("input")
    num_axes = len(call.arguments["normalized_shape"])
    if num_axes > 1:
        trace.freeze_varying(features, range(features.ndim - num_axes, features.ndim))
        return features

    def over_channels() -> None:
        if trace.varies(features, features.ndim - 1):
            labels = trace.along(features, -1)
            trace.statistics[call.node.name] = (features.ndim - 1, labels)
            own_scale_and_shift(trace, call, labels)

    trace.choose(over_channels)
    return features


def own_scale_and_shift(trace: Trace, call: Call, labels: Labels) -> None:
    """Let the parameters of a norm follow its channels."""
    for name in ("weight", "bias"):
        stored = call.stored(name)
        if stored is not None:
            trace.own(stored, 0, labels, output=True)


def softmax(trace: Trace, call: Call) -> Labels:
    """Shares of a whole: the channels that they are shares of stay."""
    labels = call.labels("self")
    trace.freeze_varying(labels, [call.arguments["dim"]])
    return labels


def reduced(trace: Trace, call: Call) -> Labels:
    """A mean over positions keeps the channels; over channels it is a statistic of those that stay."""
    labels = call.labels("self")
    axes = [axis % labels.ndim for axis in listed(call.arguments.get("dim"), labels.ndim)]
    varying = trace.varying(labels)
    over = [axis for axis in varying if axis in axes]
    if over == varying and len(over) == 1:
        trace.statistics[call.node.name] = (over[0], trace.along(labels, over[0]))
        return unlabelled(call.shape)
    if over == varying:
        trace.freeze_varying(labels, over)
    one = narrowed(trace.tie(labels, axes), axes)
    return one if call.arguments.get("keepdim", False) else one.reshape(call.shape)


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
