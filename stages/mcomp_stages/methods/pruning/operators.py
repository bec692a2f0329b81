"""The table that maps ATen operators to their rules.

A rule takes the trace and a call and returns the labels of the result. A new operator is a new entry of
`RULES`; an operator without an entry freezes what goes in and comes out, which is always safe.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch

from mcomp_stages.methods.pruning.elementwise import elementwise
from mcomp_stages.methods.pruning.labels import Rule, unknown
from mcomp_stages.methods.pruning.layer_rules import (
    addmm,
    batch_norm,
    convolution,
    group_norm,
    linear,
    prelu,
    transposed_convolution,
)
from mcomp_stages.methods.pruning.shape_rules import (
    addressed,
    concatenated,
    divided,
    executed,
    item,
    normalised,
    nothing,
    padded,
    passed,
    reduced,
    stacked,
    windows,
)
from mcomp_stages.methods.pruning.views import reshape

aten = torch.ops.aten


def overloads(names: str) -> list[Any]:
    """Return the operators of a list of `packet.overload` names."""
    return [operator.attrgetter(name)(aten) for name in names.split()]


def table(rules: Iterable[tuple[Rule, str]]) -> dict[Any, Rule]:
    """Return the rule of each operator."""
    return {overload: rule for rule, names in rules for overload in overloads(names)}


RULES: dict[Any, Rule] = {
    operator.getitem: item,
    **table(
        [
            (convolution, "conv1d.default conv2d.default conv3d.default"),
            (convolution, "conv1d.padding conv2d.padding conv3d.padding"),
            (
                transposed_convolution,
                "conv_transpose1d.default conv_transpose2d.input conv_transpose3d.input",
            ),
            (linear, "linear.default"),
            (addmm, "addmm.default"),
            (batch_norm, "batch_norm.default"),
            (group_norm, "group_norm.default"),
            (normalised, "layer_norm.default softmax.int log_softmax.int"),
            (prelu, "prelu.default"),
            (elementwise, "hardswish.default hardswish_.default relu6.default"),
            (partial(passed, name="input"), "dropout.default feature_dropout.default alpha_dropout.default"),
            (passed, "dropout_.default clone.default contiguous.default alias.default detach.default"),
            (passed, "to.dtype to.device to.dtype_layout type_as.default _to_copy.default"),
            (reshape, "view.default reshape.default flatten.using_ints unflatten.int _unsafe_view.default"),
            (executed, "permute.default transpose.int t.default movedim.int movedim.intlist"),
            (executed, "unsqueeze.default squeeze.default squeeze.dim squeeze.dims expand.default"),
            (
                addressed,
                "slice.Tensor select.int narrow.default roll.default flip.default",
            ),
            (nothing, "_assert_tensor_metadata.default"),
            (divided, "chunk.default split.Tensor split_with_sizes.default split.sizes"),
            (concatenated, "cat.default concat.default"),
            (stacked, "stack.default"),
            (padded, "pad.default constant_pad_nd.default"),
            (windows, "max_pool1d.default max_pool2d.default max_pool3d.default"),
            (
                windows,
                "max_pool2d_with_indices.default avg_pool1d.default avg_pool2d.default avg_pool3d.default",
            ),
            (windows, "adaptive_avg_pool1d.default adaptive_avg_pool2d.default adaptive_avg_pool3d.default"),
            (windows, "adaptive_max_pool1d.default adaptive_max_pool2d.default"),
            (windows, "upsample_nearest1d.vec upsample_nearest2d.vec upsample_nearest3d.vec"),
            (windows, "upsample_bilinear2d.vec upsample_bicubic2d.vec upsample_linear1d.vec"),
            (reduced, "mean.dim sum.dim_IntList amax.default amin.default mean.default sum.default"),
        ]
    ),
}


def rule_of(target: Any) -> Rule:
    """Return the rule of an operator: its own, the one for everything element by element, or `unknown`."""
    known = RULES.get(target)
    if known is None and torch.Tag.pointwise in getattr(target, "tags", ()):
        return elementwise
    return known or unknown
