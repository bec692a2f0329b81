# O = output channels, I = input channels, h, w = kernel, R = rank, P = rank of inputs, Q = rank of outputs
"""A weight as a product of smaller ones: SVD for matrices, Tucker-2 for convolutions.

Everything is computed in float64 and returned in the weight's own type.
"""

from __future__ import annotations

import torch
from torch import Tensor

SWEEPS = 10  # the error of alternating least squares hardly falls after a few


def svd_factors(weight_OI: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return `reduce_RI` and `restore_OR` whose product is the nearest matrix of a rank (Eckart-Young).

    Both get the square root of the singular values, so that neither has all of the scale.
    """
    left_OR, values_R, right_RI = torch.linalg.svd(weight_OI.double(), full_matrices=False)
    root_R = values_R[:rank].sqrt()
    reduce_RI, restore_OR = root_R[:, None] * right_RI[:rank], left_OR[:, :rank] * root_R
    return reduce_RI.to(weight_OI.dtype), restore_OR.to(weight_OI.dtype)


def tucker_factors(
    weight_OIhw: Tensor, rank_in: int, rank_out: int, sweeps: int = SWEEPS
) -> tuple[Tensor, Tensor, Tensor]:
    """Return `reduce_PI`, `core_QPhw` and `restore_OQ` whose product is near the weight.

    Source: Kim et al. 2016, arXiv:1511.06530 (equations 3 to 5). The start is the truncated HOSVD; each sweep
    then finds the best basis of one axis for that of the other (HOOI), which never makes the error larger.
    """
    weight = weight_OIhw.double()
    out_OQ = leading_vectors(unfolded(weight, 0), rank_out)
    in_IP = leading_vectors(unfolded(weight, 1), rank_in)
    for _ in range(sweeps):
        out_OQ = leading_vectors(unfolded(torch.einsum("oihw,ip->ophw", weight, in_IP), 0), rank_out)
        in_IP = leading_vectors(unfolded(torch.einsum("oihw,oq->qihw", weight, out_OQ), 1), rank_in)
    core_QPhw = torch.einsum("oihw,oq,ip->qphw", weight, out_OQ, in_IP)
    kind = weight_OIhw.dtype
    return in_IP.T.to(kind), core_QPhw.to(kind), out_OQ.to(kind)


def unfolded(weight: Tensor, axis: int) -> Tensor:
    """Return a weight as a matrix with `axis` first."""
    return weight.movedim(axis, 0).flatten(1)


def leading_vectors(matrix: Tensor, rank: int) -> Tensor:
    """Return the left singular vectors of the largest singular values, as columns."""
    # Of the small square matrix: the unfolded weights are very wide. The lowest values, which squaring makes
    # inexact, are those that are dropped.
    vectors: Tensor = torch.linalg.eigh(matrix @ matrix.T).eigenvectors
    return vectors.flip(1)[:, :rank]


def lost_energy(matrix: Tensor) -> Tensor:
    """Return the share of the sum of squares that is lost when 0, 1, ... of the singular values are kept."""
    matrix = matrix.double() if matrix.shape[0] <= matrix.shape[1] else matrix.double().T
    energy = torch.linalg.eigvalsh(matrix @ matrix.T).clamp(min=0).flip(0)
    total = energy.sum()
    if total == 0:
        return torch.zeros(len(energy) + 1, dtype=torch.float64)
    rest = energy.flip(0).cumsum(0).flip(0)
    lost: Tensor = torch.cat([rest, rest.new_zeros(1)]) / total
    return lost
