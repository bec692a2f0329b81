"""Which weights a graph reads, and by what."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mcomp.errors import StageError
from mcomp_stages.methods.quantization.training_graph import canonical_graph
from mcomp_stages.methods.quantization.weights.uses import UsedWeight, inside, used_weights
from tests.stages.methods.quantization.weights.nets import Reader, tokens


class Products(nn.Module):
    """A matrix behind its input, one in front of it, one that serves both ways, and a bias that is none."""

    def __init__(self) -> None:
        super().__init__()
        self.behind, self.front = nn.Parameter(torch.randn(6, 4)), nn.Parameter(torch.randn(3, 5))
        self.both = nn.Linear(4, 4, bias=False)
        self.shift, self.fused = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(4, 4))
        self.attend = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.front @ (x @ self.behind)
        y = self.both(y) @ self.both.weight + self.shift
        z: Tensor = torch.addmm(self.shift, y.flatten(0, 1), self.fused).unflatten(0, y.shape[:2])
        z, _ = self.attend(z, z, z, need_weights=False)
        return z


def found(module: nn.Module, inputs: dict[str, Tensor]) -> dict[str, UsedWeight]:
    captured = canonical_graph(module.eval(), inputs)
    return {weight.name: weight for weight in used_weights(captured, module)}


def test_layers_are_found_by_what_reads_their_weights_and_tied_ones_once() -> None:
    weights = found(Reader(), tokens(2))
    assert {name: set(weight.operators) for name, weight in weights.items()} == {
        "embed.weight": {"embedding", "linear"},
        "query.weight": {"linear"},
        "key.weight": {"linear"},
        "value.weight": {"linear"},
        "conv.weight": {"convolution"},
    }
    assert set(weights["embed.weight"].paths) == {"embed", "head"}
    assert not any(weight.transposed for weight in weights.values())


def test_raw_matrices_are_found_behind_their_inputs() -> None:
    weights = found(Products(), {"x": torch.randn(2, 5, 6)})
    assert {name for name, weight in weights.items() if weight.transposed} == {"behind", "fused"}
    assert "front" not in weights
    assert not weights["both.weight"].one_way
    assert {"attend.in_proj_weight", "attend.out_proj.weight"} <= set(weights)


def test_a_pattern_finds_weights_by_all_paths_that_they_have() -> None:
    module = Reader()
    weights = found(module, tokens(2))
    assert inside(module, weights, "head") == ["embed.weight"]
    with pytest.raises(StageError, match="'norm' matches norm, which has no weight of the chosen operators"):
        inside(module, weights, "norm")
