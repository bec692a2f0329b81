"""Fused attention as its two products with a softmax between them, which placement and runtimes know."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.fx import GraphModule, Node

from mcomp.model.graph import rewrite
from mcomp_stages.methods.quantization.canonical import call_before, replace

aten = torch.ops.aten

DEFAULTS = {"attn_mask": None, "dropout_p": 0.0, "is_causal": False, "scale": None, "enable_gqa": False}
# In place of minus infinity: the exporter would guard a softmax over that with IsNaN, in each run.
MASKED = float(torch.finfo(torch.float32).min)


def write_out_attention(graph_module: GraphModule) -> None:
    """Replace scaled_dot_product_attention by matmul, softmax and matmul, in place.

    A row whose mask is False everywhere gets the mean of all values, not zeros. Attention with dropout, a
    causal mask that is only said, or shared heads stays as it is.
    """
    rewrite(graph_module, write_out)


def write_out(node: Node) -> None:
    """Replace a call if it is such attention."""
    if node.target is not aten.scaled_dot_product_attention.default:
        return
    query, key, value, *rest = node.args
    given = {**DEFAULTS, **dict(zip(DEFAULTS, rest[:3], strict=False)), **node.kwargs}
    if given["dropout_p"] or given["is_causal"] or given["enable_gqa"]:
        return
    assert isinstance(query, Node)
    scale = given["scale"] or 1 / math.sqrt(query.meta["val"].shape[-1])
    turned = call_before(node, aten.transpose.int, key, -2, -1)
    scores = call_before(node, aten.matmul.default, call_before(node, aten.mul.Tensor, query, scale), turned)
    scores = masked(node, scores, given["attn_mask"])
    seen = call_before(node, aten.softmax.int, scores, -1)
    replace(node, call_before(node, aten.matmul.default, seen, value))


def masked(node: Node, scores: Node, mask: Any) -> Node:
    """Return scores with a mask applied: truths say what is seen, numbers are added."""
    if mask is None:
        return scores
    if mask.meta["val"].dtype is torch.bool:
        return call_before(node, aten.where.ScalarOther, mask, scores, MASKED)
    return call_before(node, aten.add.Tensor, scores, mask)
