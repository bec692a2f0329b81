"""Weights and correlated inputs for the methods below 8 bits."""

from __future__ import annotations

import torch
from torch import Tensor

from mcomp_stages.methods.layer_hessian import HessianSum
from mcomp_stages.methods.quantization.weights.grid import IntegerWeight


def random_weight(rows: int, columns: int, seed: int) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def correlated_hessian(columns: int, seed: int, outlier: float = 1.0) -> Tensor:
    """Return the Hessian of inputs that vary in few directions; the first is `outlier` times as large."""
    random = torch.Generator().manual_seed(seed)
    few = torch.randn(300, max(1, columns // 4), generator=random)
    x = few @ torch.randn(few.shape[1], columns, generator=random)
    x += 0.1 * torch.randn(x.shape, generator=random)
    x[:, 0] *= outlier
    total = HessianSum(1, columns)
    total.add(x.unsqueeze(0))
    return total.hessians()[0]


def require_same_integers(left: IntegerWeight, right: IntegerWeight) -> None:
    torch.testing.assert_close(left.codes, right.codes, rtol=0, atol=0)
    torch.testing.assert_close(left.grid.scale, right.grid.scale, rtol=0, atol=0)
    torch.testing.assert_close(left.grid.zero, right.grid.zero, rtol=0, atol=0)
