"""Fused attention written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn import functional

from mcomp.model.graph import capture
from mcomp_stages.methods.quantization.attention import write_out_attention

FUSED = torch.ops.aten.scaled_dot_product_attention.default


class Attend(nn.Module):
    """One call of fused attention."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, **self.settings)


def inputs(mask: Tensor | None = None) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    parts = {name: torch.randn(3, 2, 5, 8, generator=generator) for name in ("query", "key", "value")}
    return parts if mask is None else {**parts, "mask": mask}


def written_out(module: nn.Module, example: dict[str, Tensor]) -> GraphModule:
    graph_module = capture(module.eval(), example)
    write_out_attention(graph_module)
    return graph_module


@pytest.mark.parametrize("settings", [{}, {"scale": 0.2}])
@pytest.mark.parametrize("kind", ["none", "bool", "float"])
def test_it_computes_the_same(settings: dict[str, Any], kind: str) -> None:
    allowed = torch.rand(3, 1, 5, 5, generator=torch.Generator().manual_seed(1)) < 0.6
    allowed[..., 0] = True
    mask = {"none": None, "bool": allowed, "float": allowed.float() * 3}[kind]
    module, given = Attend(**settings), inputs(mask)
    graph_module = written_out(module, given)
    assert not graph_module.graph.find_nodes(op="call_function", target=FUSED)
    torch.testing.assert_close(graph_module(**given), module(**given))


def test_a_row_that_sees_nothing_is_finite() -> None:
    mask = torch.ones(3, 1, 5, 5, dtype=torch.bool)
    mask[0, 0, 2] = False
    given = inputs(mask)
    output = written_out(Attend(), given)(**given)
    torch.testing.assert_close(output[0, :, 2], given["value"][0].mean(1))


def test_a_causal_mask_that_is_only_said_stays_fused() -> None:
    graph_module = written_out(Attend(is_causal=True), inputs())
    assert graph_module.graph.find_nodes(op="call_function", target=FUSED)
