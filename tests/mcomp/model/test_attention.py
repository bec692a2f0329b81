"""Attention of torch that can lose heads, against torch's own, and against its masked self."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mcomp.model.attention import make_cuttable
from mcomp.model.edits import CuttableAttention

QUERIES, KEYS = 4, 5
PADDED = torch.tensor([[False] * KEYS, [False] * KEYS, [False] * 4 + [True]])
CAUSAL = torch.ones(QUERIES, KEYS, dtype=torch.bool).triu(1)
KINDS: dict[str, dict[str, Any]] = {
    "batch_first": {"batch_first": True},
    "positions_first": {},
    "no_bias": {"batch_first": True, "bias": False},
    "other_widths": {"batch_first": True, "kdim": 5, "vdim": 6},
}


def pair(**arguments: Any) -> tuple[nn.MultiheadAttention, nn.MultiheadAttention]:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, **arguments).eval()
    if attention.in_proj_bias is not None:
        nn.init.normal_(attention.in_proj_bias)
    cuttable = copy.deepcopy(attention)
    make_cuttable(cuttable)
    return attention, cuttable


def inputs(arguments: dict[str, Any]) -> list[Tensor]:
    widths = (8, arguments.get("kdim", 8), arguments.get("vdim", 8))
    made = [torch.randn(3, size, width) for size, width in zip((QUERIES, KEYS, KEYS), widths, strict=True)]
    return made if arguments.get("batch_first") else [each.transpose(0, 1) for each in made]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("padding", [None, PADDED])
@pytest.mark.parametrize("mask", [None, CAUSAL, "each_head"])
def test_it_computes_what_torch_does(kind: str, need_weights: bool, padding: Any, mask: Any) -> None:
    attention, cuttable = pair(**KINDS[kind])
    given = inputs(KINDS[kind])
    mask = torch.rand(6, QUERIES, KEYS) > 0.7 if mask == "each_head" else mask
    if mask is not None:
        mask = mask & (torch.arange(KEYS) > 0)  # no query may be left without a key
    options = {"key_padding_mask": padding, "attn_mask": mask, "need_weights": need_weights}
    for average in (False, True):
        expected, actual = (
            each(*given, **options, average_attn_weights=average) for each in (attention, cuttable)
        )
        torch.testing.assert_close(actual[0], expected[0])
        assert (actual[1] is None) == (not need_weights)
        if need_weights:
            torch.testing.assert_close(actual[1], expected[1])


def test_masks_to_add_and_inputs_without_a_batch_work_too() -> None:
    attention, cuttable = pair(batch_first=True)
    given = [torch.randn(size, 8) for size in (QUERIES, KEYS, KEYS)]
    mask = torch.randn(QUERIES, KEYS)
    expected, actual = (each(*given, attn_mask=mask) for each in (attention, cuttable))
    torch.testing.assert_close(actual, expected)


def test_with_a_head_less_it_is_the_one_with_that_head_at_zero() -> None:
    attention, cuttable = pair(batch_first=True)
    with torch.no_grad():
        cut = torch.tensor([0, 1, 2, 3])
        for part in range(3):
            attention.in_proj_weight[cut + 8 * part] = 0
            attention.in_proj_bias[cut + 8 * part] = 0
        kept = torch.cat([torch.arange(4, 8) + 8 * part for part in range(3)])
        cuttable.in_proj_weight = nn.Parameter(cuttable.in_proj_weight[kept])
        cuttable.in_proj_bias = nn.Parameter(cuttable.in_proj_bias[kept])
        cuttable.out_proj.weight = nn.Parameter(cuttable.out_proj.weight[:, 4:])
    x = torch.randn(3, KEYS, 8)
    torch.testing.assert_close(cuttable(x, x, x)[0], attention(x, x, x)[0])


def test_dropout_acts_in_training_only() -> None:
    _, cuttable = pair(batch_first=True, dropout=0.5)
    x = torch.randn(3, KEYS, 8)
    assert torch.equal(cuttable(x, x, x)[0], cuttable(x, x, x)[0])
    cuttable.train()
    assert not torch.equal(cuttable(x, x, x)[0], cuttable(x, x, x)[0])


def test_keys_beside_those_of_the_input_are_refused() -> None:
    with pytest.raises(ValueError, match="add_bias_kv or add_zero_attn"):
        make_cuttable(nn.MultiheadAttention(8, 2, add_zero_attn=True))


def test_the_edit_refuses_what_is_no_attention() -> None:
    net = nn.Sequential(nn.Linear(8, 8))
    with pytest.raises(ValueError, match=r"0 is no nn\.MultiheadAttention"):
        CuttableAttention(modules=("0",)).apply(net, {})
