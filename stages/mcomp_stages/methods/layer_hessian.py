# O = outputs of a layer, K = inputs of each output (kernel flattened), G = groups of a convolution,
# N = positions seen, R = columns left in a block
"""The Hessian of a layer's output error, and the sweep over its columns that GPTQ and SparseGPT share.

A layer is compressed so that its outputs change least: the mean over positions of ||W x - W' x||^2. This is
quadratic in every row of W with one and the same Hessian H = 2 X X^T / N. When a column is changed, the best
change of the columns after it is known in closed form from H^-1, so one pass over the columns does it.

Sources: Hassibi & Stork 1993 (OBS); Frantar et al. 2022, arXiv:2208.11580 (one layer at a time) and
arXiv:2210.17323 (Algorithm 1: one order for all rows, Cholesky factor, lazy blocks).
Differs: the factor comes from one Cholesky decomposition of H taken backwards and no inverse is formed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mcomp.signals import raise_if_interrupted

DAMPING = 0.01  # as in the papers, relative to the mean of the diagonal
BLOCK = 128
# Long calls into native code are cut in parts, so that signals are heard of within seconds: the side of what
# is decomposed or inverted in one call, and the multiply-adds of one product.
LARGEST_SIDE = 1024
LARGEST_PRODUCT = 2**36
# Below this share of its mean square, the variance of an input is rounding.
SMALLEST_VARIANCE = 1e-10

Rule = Callable[[int, Tensor], Tensor]
"""What becomes of a column: from its number and the values (O, R) of it and of those that follow in its
block, as they stand after all corrections so far, to its new values (O,)."""


class HessianSum:
    """The Hessians of one layer, one for each of its groups, summed up over batches.

    Holds G * K * K numbers, however many samples there are.
    """

    def __init__(self, num_groups: int, num_inputs: int) -> None:
        self.products_GKK = torch.zeros(num_groups, num_inputs, num_inputs, dtype=torch.float64)
        self.sum_GK = torch.zeros(num_groups, num_inputs, dtype=torch.float64)
        self.squares_GK = torch.zeros(num_groups, num_inputs, dtype=torch.float64)
        self.num_positions = 0

    def add(self, x_GNK: Tensor) -> None:
        """Take in a batch of inputs. Raises ValueError if they are not finite."""
        exact = x_GNK.double()
        # In float64: a variance is the small difference of these two.
        self.sum_GK += exact.sum(1)
        self.squares_GK += exact.square().sum(1)
        if not self.squares_GK.isfinite().all():
            raise ValueError("its inputs on the calibration samples are not finite")
        for part_GNK in torch.split(x_GNK, max(1, LARGEST_PRODUCT // x_GNK.shape[-1] ** 2), dim=1):
            raise_if_interrupted()
            self.products_GKK += part_GNK.mT @ part_GNK
        self.num_positions += x_GNK.shape[1]

    def hessians(self) -> Tensor:
        """Return H (G, K, K) in float64.

        Raises ValueError if there were no inputs, all are zero, or none differs from position to position:
        such an H knows nothing of the layer.
        """
        if not self.num_positions:
            raise ValueError("it never ran on the calibration samples")
        second_GK = self.squares_GK / self.num_positions
        variance_GK = second_GK - (self.sum_GK / self.num_positions).square()
        if not second_GK.any():
            raise ValueError("its inputs are zero on all calibration samples")
        if (variance_GK <= SMALLEST_VARIANCE * second_GK).all():
            raise ValueError("its inputs are the same on all calibration samples")
        return self.products_GKK * (2 / self.num_positions)


def with_damping(hessian_KK: Tensor, damping: float) -> Tensor:
    """Return H + damping * mean(diagonal) * I.

    A dead column (its input is zero on all samples) tells nothing of the others and learns nothing from
    them. Raises ValueError if H is not finite.
    """
    if not hessian_KK.isfinite().all():
        raise ValueError("its Hessian is not finite")
    diagonal = hessian_KK.diagonal()
    live = diagonal != 0
    mean = diagonal[live].mean() if live.any() else diagonal.new_ones(())
    return hessian_KK + torch.diag(torch.where(live, damping * mean, mean))


def inverse_factor(hessian_KK: Tensor, damping: float = DAMPING) -> Tensor:
    """Return the upper triangular U with U^T U the inverse of the damped H.

    Raises ValueError if H is not finite, or not positive definite with this damping.
    """
    damped = with_damping(hessian_KK, damping)
    # H = M M^T with M upper triangular: the Cholesky factor of H with both axes turned round.
    lower, failed = cholesky(damped.flip(0, 1))
    if failed:
        raise ValueError(
            f"its Hessian is singular or not positive with a damping of {damping:g}; "
            "raise `damping`, or give more calibration samples"
        )
    return inverse_of_upper(lower.flip(0, 1))


def cholesky(matrix_KK: Tensor) -> tuple[Tensor, bool]:
    """Return the lower triangular L with L L^T the matrix, and whether there is none.

    Block after block, each as what the matrix leaves after those before it.
    """
    lower_KK = torch.zeros_like(matrix_KK)
    for start in range(0, len(matrix_KK), LARGEST_SIDE):
        stop = start + LARGEST_SIDE
        for row in range(start, len(matrix_KK), LARGEST_SIDE):
            raise_if_interrupted()
            rows = slice(row, row + LARGEST_SIDE)
            rest = matrix_KK[rows, start:stop] - lower_KK[rows, :start] @ lower_KK[start:stop, :start].mT
            if row == start:
                corner, failed = torch.linalg.cholesky_ex(rest)
                if failed:
                    return lower_KK, True
                lower_KK[rows, start:stop] = corner
            else:
                lower_KK[rows, start:stop] = torch.linalg.solve_triangular(corner, rest.mT, upper=False).mT
    return lower_KK, False


def inverse_of_upper(upper_KK: Tensor) -> Tensor:
    """Return the inverse of an upper triangular matrix, some columns after the other."""
    inverse_KK = torch.zeros_like(upper_KK)
    identity_KK = torch.eye(len(upper_KK), dtype=upper_KK.dtype, device=upper_KK.device)
    for start in range(0, len(upper_KK), LARGEST_SIDE):
        raise_if_interrupted()
        stop = start + LARGEST_SIDE
        inverse_KK[:stop, start:stop] = torch.linalg.solve_triangular(
            upper_KK[:stop, :stop], identity_KK[:stop, start:stop], upper=True
        )
    return inverse_KK


def sweep(weight_OK: Tensor, factor_KK: Tensor, rule: Rule, block: int = BLOCK) -> Tensor:
    """Return the weight with `rule` applied to column after column, each error made good by later columns.

    `rule` is called once for every column, in order; it sees columns up to the next multiple of `block`.
    """
    # Columns become rows: each is then contiguous in memory.
    work_KO = weight_OK.mT.contiguous()
    factor = factor_KK.to(work_KO.dtype)
    result_KO = torch.empty_like(work_KO)
    num_columns = len(work_KO)
    for start in range(0, num_columns, block):
        raise_if_interrupted()
        stop = min(start + block, num_columns)
        errors = torch.empty_like(work_KO[start:stop])
        for column in range(start, stop):
            rest_RO = work_KO[column:stop]
            result_KO[column] = rule(column, rest_RO.mT)
            error_O = (rest_RO[0] - result_KO[column]) / factor[column, column]
            rest_RO.addr_(factor[column, column:stop], error_O, alpha=-1)
            errors[column - start] = error_O
        work_KO[stop:].addmm_(factor[start:stop, stop:].mT, errors, alpha=-1)
    return result_KO.mT.contiguous()


def output_error(change_OK: Tensor, hessian_KK: Tensor) -> float:
    """Return the mean over positions of ||change x||^2: half of the quadratic form of H."""
    change = change_OK.to(hessian_KK.dtype)
    return 0.5 * ((change @ hessian_KK) * change).sum().item()
