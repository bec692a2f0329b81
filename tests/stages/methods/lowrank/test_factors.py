"""SVD and Tucker-2 of weights: nearest, exact at full ranks, and never worse than the first guess."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mcomp_stages.methods.lowrank.factors import lost_energy, svd_factors, tucker_factors, unfolded


def random_weight(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tucker_product(reduce: Tensor, core: Tensor, restore: Tensor) -> Tensor:
    return torch.einsum("pi,qphw,oq->oihw", reduce, core, restore)


def slow_nearest(weight: np.ndarray, rank: int) -> np.ndarray:
    """Take one rank-one matrix after the other off, each found by power iteration."""
    rest, product = weight.copy(), np.zeros_like(weight)
    for _ in range(rank):
        right = np.random.default_rng(0).standard_normal(weight.shape[1])
        for _ in range(500):
            right = rest.T @ (rest @ right)
            right /= np.linalg.norm(right)
        found = np.outer(rest @ right, right)
        rest, product = rest - found, product + found
    return product


def test_svd_gives_the_nearest_matrix_of_a_rank() -> None:
    weight = random_weight(7, 12)
    reduce, restore = svd_factors(weight, 3)
    assert (reduce.shape, restore.shape) == ((3, 12), (7, 3))
    np.testing.assert_allclose(restore @ reduce, slow_nearest(weight.double().numpy(), 3), atol=1e-5)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 50), st.data())
@settings(max_examples=30, deadline=None)
def test_the_loss_that_is_said_is_the_loss_that_is_there(
    outputs: int, inputs: int, seed: int, data: st.DataObject
) -> None:
    weight = random_weight(outputs, inputs, seed=seed).double()
    rank = data.draw(st.integers(0, min(outputs, inputs)))
    reduce, restore = svd_factors(weight, rank)
    lost = (weight - restore @ reduce).square().sum() / weight.square().sum()
    assert abs(float(lost_energy(weight)[rank] - lost)) < 1e-9


def test_a_weight_of_zeros_loses_nothing() -> None:
    assert lost_energy(torch.zeros(3, 5)).tolist() == [0.0] * 4


@given(st.integers(2, 6), st.integers(2, 6), st.integers(0, 50), st.data())
@settings(max_examples=30, deadline=None)
def test_tucker_loses_at_most_what_both_bases_lose(
    outputs: int, inputs: int, seed: int, data: st.DataObject
) -> None:
    weight = random_weight(outputs, inputs, 3, 3, seed=seed).double()
    rank_in, rank_out = data.draw(st.integers(1, inputs)), data.draw(st.integers(1, outputs))
    lost = (weight - tucker_product(*tucker_factors(weight, rank_in, rank_out))).square().sum()
    bound = lost_energy(unfolded(weight, 1))[rank_in] + lost_energy(unfolded(weight, 0))[rank_out]
    assert float(lost / weight.square().sum()) <= float(bound) + 1e-9


def test_sweeps_never_make_the_error_larger() -> None:
    weight = random_weight(8, 6, 3, 3).double()
    errors = [
        float((weight - tucker_product(*tucker_factors(weight, 2, 3, sweeps))).norm()) for sweeps in range(6)
    ]
    assert all(after <= before + 1e-12 for before, after in pairwise(errors))
    assert errors[5] < errors[0]


def test_full_ranks_are_exact() -> None:
    weight = random_weight(5, 4, 3, 3)
    torch.testing.assert_close(tucker_product(*tucker_factors(weight, 4, 5)), weight)


def test_a_weight_made_of_few_factors_is_found_again() -> None:
    weight = tucker_product(random_weight(2, 6), random_weight(3, 2, 3, 3), random_weight(7, 3))
    torch.testing.assert_close(tucker_product(*tucker_factors(weight, 2, 3)), weight, atol=1e-4, rtol=1e-4)
