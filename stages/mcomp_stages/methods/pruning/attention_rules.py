"""Labels through products of activations: attention, fused or written out, and whatever else multiplies them.

A head is cut as a whole: its queries, keys and values are one class.

Legend: H = heads, L = positions of the left or of the queries, S = positions of the keys, K = contracted
axis, N = last axis of the right.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import prod

from mcomp_stages.methods.pruning.label_tensors import Labels, narrowed
from mcomp_stages.methods.pruning.labels import Call, unknown_layer
from mcomp_stages.methods.pruning.layer_rules import channels
from mcomp_stages.methods.pruning.recorded import Order, Product
from mcomp_stages.methods.pruning.trace import Trace


def attention(trace: Trace, call: Call) -> Labels:
    """`scaled_dot_product_attention`: (..., H, L, K), (..., H, S, K), (..., H, S, N) -> (..., H, L, N)."""
    query, key, value = (call.labels(name) for name in ("query", "key", "value"))
    repeats = query.shape[-3] // key.shape[-3] if query.ndim > 3 else 1
    if repeats > 1:  # grouped queries: several heads read one key
        key, value = (labels.repeat_interleave(repeats, dim=-3) for labels in (key, value))
    heads = whole_heads(trace, query)
    trace.unite(heads, whole_heads(trace, key))
    trace.unite(heads, whole_heads(trace, value))
    if call.arguments.get("attn_mask") is not None:
        join_bias(trace, heads, call.labels("attn_mask"))
    num_scores = query.shape[-2] * key.shape[-2]
    count_heads(trace, heads, call.shape, num_scores * (query.shape[-1] + value.shape[-1]))
    return heads.expand(call.shape)


def whole_heads(trace: Trace, labels: Labels) -> Labels:
    """Tie the last two axes; return them with size 1."""
    axes = [labels.ndim - 2, labels.ndim - 1]
    return narrowed(trace.tie(labels, axes), axes)


def join_bias(trace: Trace, heads: Labels, bias: Labels) -> None:
    """A learned bias for each head goes with its head; a mask with a row for each head makes heads stay."""
    if trace.labelled(bias):
        trace.unite(heads, whole_heads(trace, bias))
    else:
        trace.require(Order.FREEZE, partial(meet_fixed, trace, heads, bias))


def meet_fixed(trace: Trace, labels: Labels, data: Labels) -> bool:
    """Freeze channels along a leading axis of which data has a size of its own; return whether it did."""
    shape = (1,) * (labels.ndim - data.ndim) + tuple(data.shape)
    axes = [axis for axis in trace.varying(labels) if axis < labels.ndim - 2 and shape[axis] > 1]
    return bool(axes) and trace.freeze(labels)


def count_heads(trace: Trace, heads: Labels, shape: Sequence[int], macs: int) -> None:
    """Record a product (..., H, L, N) that costs `macs` for each of its leading indices."""
    labels = heads.expand(*shape[:-2], 1, 1).reshape(-1)
    trace.heads.append(labels)
    trace.products.append(Product(labels, macs / trace.batch))


def matmul(trace: Trace, call: Call, left: str = "self", right: str = "other") -> Labels:
    """(..., L, K) by (..., K, N), both activations, or by a parameter (K, N), which makes channels."""
    stored = call.stored(right)
    if stored is not None and stored.trainable and len(stored.shape) == 2 and not stored.is_part:
        return by_parameter(trace, call, left, right)
    left_LK, right_KN = call.labels(left), call.labels(right)
    if min(left_LK.ndim, right_KN.ndim) < 2 or call.stored(left) is not None or stored is not None:
        return unknown_layer(trace, call)
    return product(trace, left_LK, right_KN, call.shape)


def by_parameter(trace: Trace, call: Call, left: str, right: str) -> Labels:
    """A linear without bias whose weight is stored as (inputs, outputs)."""
    weight = call.stored(right)
    assert weight is not None
    outputs = trace.fresh(weight.shape[1])
    trace.own(weight, 0, trace.along(call.labels(left), -1), output=False)
    trace.own(weight, 1, outputs, output=True)
    trace.count(weight, prod(call.shape) / call.shape[-1])
    return channels(call, outputs, axis=-1)


def product(trace: Trace, left_LK: Labels, right_KN: Labels, shape: Sequence[int]) -> Labels:
    """Return the labels (`shape`) of a product of activations: one class for each leading index."""
    left_LK, right_KN = (labels[(None,) * (len(shape) - labels.ndim)] for labels in (left_LK, right_KN))
    if not trace.labelled(left_LK):
        return mixed(trace, right_KN, left_LK, shape, contracted=len(shape) - 2)
    if not trace.labelled(right_KN):
        return mixed(trace, left_LK, right_KN, shape, contracted=len(shape) - 1)
    heads = whole_heads(trace, left_LK)
    trace.unite(heads, whole_heads(trace, right_KN))
    count_heads(trace, heads, shape, prod(shape[-2:]) * left_LK.shape[-1])
    return heads.expand(tuple(shape))


def mixed(trace: Trace, labels: Labels, data: Labels, shape: Sequence[int], contracted: int) -> Labels:
    """Return the labels of a product with data, which mixes positions and keeps channels."""
    trace.freeze_varying(labels, [contracted])
    trace.require(Order.FREEZE, partial(meet_fixed, trace, labels, data))
    result = narrowed(labels, [contracted]).expand(tuple(shape))
    columns = narrowed(result, range(len(shape) - 1)).reshape(-1)
    macs = prod(shape[:-1]) * labels.shape[contracted]
    trace.products.append(Product(columns, macs / trace.batch))
    return result


def added_product(trace: Trace, call: Call) -> Labels:
    """`baddbmm`: a product of activations and something added to it."""
    heads = product(trace, call.labels("batch1"), call.labels("batch2"), call.shape)
    join_bias(trace, narrowed(heads, [len(call.shape) - 2, len(call.shape) - 1]), call.labels("self"))
    return heads
