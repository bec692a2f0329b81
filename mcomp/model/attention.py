"""`nn.MultiheadAttention` that works with any number of heads.

torch's own wants heads times their size to be the width of the model, so it cannot lose a head. The
parameters, their names and the results are the same.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

# B = samples, L = queries, S = keys, H = heads, D = size of a head


class CuttableAttention(nn.MultiheadAttention):
    """An `nn.MultiheadAttention`, made so in place by `make_cuttable`; the number of heads is read off the
    weights.
    """

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the output and, if asked for, the weights. Overrides torch; see there."""
        inputs: tuple[Tensor, ...] = (query, key, value)
        batched = query.dim() == 3
        if not batched:
            inputs = tuple(each.unsqueeze(0) for each in inputs)
        elif not self.batch_first:
            inputs = tuple(each.transpose(0, 1) for each in inputs)
        query_BHLD, key_BHSD, value_BHSD = self._projected(*inputs)
        mask = joined_mask(attn_mask, key_padding_mask, query_BHLD, key_BHSD)
        dropout = self.dropout if self.training else 0.0
        weights_BHLS = None
        if need_weights:
            scores_BHLS = query_BHLD @ key_BHSD.transpose(-2, -1) / self.head_dim**0.5
            weights_BHLS = (scores_BHLS if mask is None else scores_BHLS + mask).softmax(-1)
            mixed_BHLD = functional.dropout(weights_BHLS, dropout) @ value_BHSD
        else:
            mixed_BHLD = functional.scaled_dot_product_attention(
                query_BHLD, key_BHSD, value_BHSD, attn_mask=mask, dropout_p=dropout
            )
        output = self.out_proj(mixed_BHLD.transpose(1, 2).flatten(2))
        if weights_BHLS is not None and average_attn_weights:
            weights_BHLS = weights_BHLS.mean(1)
        if batched:
            return (output if self.batch_first else output.transpose(0, 1)), weights_BHLS
        return output.squeeze(0), None if weights_BHLS is None else weights_BHLS.squeeze(0)

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        if self.in_proj_weight is not None:
            weights = self.in_proj_weight.chunk(3)
        else:
            weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return tuple(
            split_heads(functional.linear(each, weight, bias), self.head_dim)
            for each, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )


def make_cuttable(attention: nn.MultiheadAttention) -> None:
    """Turn torch's module into a `CuttableAttention`, in place.

    Raises ValueError for one with a learned or a zero key beside those of the input.
    """
    if attention.bias_k is not None or attention.add_zero_attn:
        raise ValueError("attention with add_bias_kv or add_zero_attn cannot be cut")
    attention.__class__ = CuttableAttention
    attention._qkv_same_embed_dim = False  # keeps torch's fused encoder layer from reading the weights itself


def split_heads(features: Tensor, head_dim: int) -> Tensor:
    """(B, L, H * D) -> (B, H, L, D)."""
    return features.view(*features.shape[:-1], -1, head_dim).transpose(1, 2)


def joined_mask(
    attn_mask: Tensor | None, key_padding_mask: Tensor | None, query_BHLD: Tensor, key_BHSD: Tensor
) -> Tensor | None:
    """Return both masks as one to add to the scores, or None."""
    mask = None if attn_mask is None else additive(attn_mask, query_BHLD)
    if mask is not None and mask.dim() == 3:
        mask = mask.view(len(query_BHLD), -1, *mask.shape[-2:])
    if key_padding_mask is not None:
        padding = additive(key_padding_mask, query_BHLD).view(-1, 1, 1, key_BHSD.shape[-2])
        mask = padding if mask is None else mask + padding
    return mask


def additive(mask: Tensor, like: Tensor) -> Tensor:
    """Return minus infinity where a bool mask is True, or the mask itself if it is one to add."""
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill_(mask, float("-inf"))
