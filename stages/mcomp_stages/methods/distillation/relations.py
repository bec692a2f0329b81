"""How the tokens of a sentence relate to each other in a student and a teacher (MiniLM)."""

# N = samples, L = tokens, W = width, H = relation heads
from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax


def token_relations(left_NLW: Tensor, right_NLW: Tensor, heads: int, mask_NL: Tensor | None) -> Tensor:
    """Return log softmax(left right^T / sqrt(width of a head)) over the real tokens, (N, H, L, L).

    Queries with keys give the distribution of attention, values with values their relation. Padding gets
    -inf.
    """
    left, right = (split_heads(each, heads) for each in (left_NLW, right_NLW))
    scores = left @ right.transpose(2, 3) / math.sqrt(left.shape[3])
    if mask_NL is not None:
        scores = scores.masked_fill(~mask_NL.bool()[:, None, None, :], -torch.inf)
    return log_softmax(scores, dim=3)


def split_heads(features_NLW: Tensor, heads: int) -> Tensor:
    """Return features by head, (N, H, L, W / H)."""
    num_samples, length, width = features_NLW.shape
    return features_NLW.reshape(num_samples, length, heads, width // heads).transpose(1, 2)


def relation_divergence(student_NHLL: Tensor, teacher_NHLL: Tensor, mask_NL: Tensor | None) -> Tensor:
    """Return KL(teacher || student) of log-distributions, the mean over heads and real tokens, a scalar.

    Wang et al. 2020, arXiv:2002.10957, equations 6 to 8; with more relations, arXiv:2012.15828.
    """
    # Padding is -inf on both sides: it has no probability and adds nothing.
    is_real = torch.isfinite(teacher_NHLL)
    student, teacher = (each.masked_fill(~is_real, 0.0) for each in (student_NHLL, teacher_NHLL))
    terms = kl_div(student, teacher, reduction="none", log_target=True) * is_real
    of_tokens_NL = terms.sum(dim=3).mean(dim=1)
    if mask_NL is None:
        return of_tokens_NL.mean()
    return (of_tokens_NL * mask_NL).sum() / mask_NL.sum().clamp(min=1)
