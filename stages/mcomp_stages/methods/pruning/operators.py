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

from mcomp_stages.methods.pruning.attention_rules import added_product, attention, matmul
from mcomp_stages.methods.pruning.einsum_rule import einsum
from mcomp_stages.methods.pruning.elementwise import elementwise
from mcomp_stages.methods.pruning.index_rules import addressed, divided, gathered, indexed, sliced
from mcomp_stages.methods.pruning.labels import Rule, unknown
from mcomp_stages.methods.pruning.layer_rules import (
    addmm,
    convolution,
    embedding,
    linear,
    transposed_convolution,
)
from mcomp_stages.methods.pruning.norm_rules import (
    batch_norm,
    group_norm,
    layer_norm,
    prelu,
    reduced,
    softmax,
)
from mcomp_stages.methods.pruning.shape_rules import (
    alike,
    concatenated,
    constant,
    executed,
    item,
    nothing,
    padded,
    passed,
    shuffled,
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
            (embedding, "embedding.default"),
            (attention, "scaled_dot_product_attention.default"),
            (matmul, "matmul.default"),
            (partial(matmul, right="mat2"), "bmm.default mm.default"),
            (added_product, "baddbmm.default"),
            (einsum, "einsum.default"),
            (batch_norm, "batch_norm.default instance_norm.default"),
            (group_norm, "group_norm.default"),
            (layer_norm, "layer_norm.default rms_norm.default"),
            (softmax, "softmax.int log_softmax.int"),
            (prelu, "prelu.default"),
            (
                elementwise,
                "hardswish.default hardswish_.default relu6.default where.ScalarOther where.ScalarSelf",
            ),
            (elementwise, "expand_as.default"),
            (partial(passed, name="input"), "dropout.default feature_dropout.default alpha_dropout.default"),
            (passed, "dropout_.default clone.default contiguous.default alias.default detach.default"),
            (passed, "to.dtype to.device to.dtype_layout type_as.default _to_copy.default"),
            (alike, "zeros_like.default ones_like.default full_like.default"),
            (constant, "new_zeros.default new_ones.default new_full.default new_empty.default"),
            (reshape, "view.default reshape.default flatten.using_ints unflatten.int _unsafe_view.default"),
            (executed, "permute.default transpose.int t.default movedim.int movedim.intlist repeat.default"),
            (executed, "unsqueeze.default squeeze.default squeeze.dim squeeze.dims expand.default"),
            (executed, "repeat_interleave.self_int tile.default"),
            (executed, "pixel_unshuffle.default"),
            (shuffled, "pixel_shuffle.default"),
            (sliced, "slice.Tensor narrow.default"),
            (addressed, "select.int unbind.int roll.default flip.default index_select.default"),
            (indexed, "index.Tensor"),
            (gathered, "gather.default"),
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
            (windows, "adaptive_max_pool1d.default adaptive_max_pool2d.default adaptive_max_pool3d.default"),
            (windows, "upsample_nearest1d.vec upsample_nearest2d.vec upsample_nearest3d.vec"),
            (windows, "_upsample_nearest_exact1d.vec _upsample_nearest_exact2d.vec"),
            (windows, "upsample_linear1d.vec upsample_bilinear2d.vec upsample_bicubic2d.vec"),
            (windows, "upsample_trilinear3d.vec grid_sampler.default"),
            (reduced, "mean.dim sum.dim_IntList amax.default amin.default mean.default sum.default"),
            (reduced, "var.correction std.correction linalg_vector_norm.default logsumexp.default"),
        ]
    ),
}


def rule_of(target: Any) -> Rule:
    """Return the rule of an operator: its own, the one for everything element by element, or `unknown`."""
    known = RULES.get(target)
    if known is None and torch.Tag.pointwise in getattr(target, "tags", ()):
        return elementwise
    return known or unknown
