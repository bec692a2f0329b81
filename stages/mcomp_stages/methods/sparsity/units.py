# O = outputs, K = all the numbers of one output (kernel flattened), U = units
"""What is set to zero as a whole: single weights, rows of kernels, kernels, or blocks.

The grains are those of Mao et al. 2017, arXiv:1705.08922 (section 3); in linears and 1x1 convolutions a
kernel is a single weight. A block is one of the weight as a matrix (O, K); at the edges it is smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mcomp_stages.methods.sparsity.config import Unit

Block = tuple[int, int]


def unit_index(shape: torch.Size, unit: Unit, block: Block) -> Tensor:
    """Return the number of the unit, from 0, that each weight of a tensor of this shape belongs to."""
    if len(shape) == 1:  # a bias: each is alone
        return torch.arange(shape[0])
    return INDEX[unit](shape, block)


def of_weights(shape: torch.Size, block: Block) -> Tensor:
    """Each weight is alone."""
    return torch.arange(shape.numel()).view(shape)


def of_vectors(shape: torch.Size, block: Block) -> Tensor:
    """The weights of a row of a kernel are together."""
    if len(shape) == 2:
        return of_weights(shape, block)
    rows = torch.arange(shape[:-1].numel()).view(*shape[:-1], 1)
    return rows.expand(shape)


def of_kernels(shape: torch.Size, block: Block) -> Tensor:
    """The weights from one input channel to one output channel are together."""
    kernels = torch.arange(shape[:2].numel()).view(*shape[:2], *(1 for _ in shape[2:]))
    return kernels.expand(shape)


def of_blocks(shape: torch.Size, block: Block) -> Tensor:
    """Rectangles of the weight as a matrix (O, K)."""
    num_rows, num_columns = shape[0], shape[1:].numel()
    across = -(-num_columns // block[1])
    rows, columns = torch.arange(num_rows) // block[0], torch.arange(num_columns) // block[1]
    return (rows[:, None] * across + columns).view(shape)


INDEX: Mapping[Unit, Callable[[torch.Size, Block], Tensor]] = {
    "weight": of_weights,
    "vector": of_vectors,
    "kernel": of_kernels,
    "block": of_blocks,
}


def summed(values: Tensor, index: Tensor) -> Tensor:
    """Return the sum (U,) over the weights of each unit, in float64."""
    sums = torch.zeros(int(index.max()) + 1, dtype=torch.float64, device=values.device)
    return sums.index_add_(0, index.flatten().to(values.device), values.flatten().double())


def sizes(index: Tensor) -> Tensor:
    """Return the number of weights (U,) of each unit."""
    return torch.bincount(index.flatten())
