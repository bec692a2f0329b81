from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from mcomp.data.sampler import EpochSampler

SIZES = {"num_samples": st.integers(1, 70), "batch_size": st.integers(1, 20)}


@given(**SIZES)
def test_every_sample_comes_once_an_epoch(num_samples: int, batch_size: int) -> None:
    batches = list(EpochSampler(num_samples, batch_size, seed=1).rest_of_epoch())
    assert sorted(torch.cat(batches).tolist()) == list(range(num_samples))


@given(**SIZES)
def test_batches_are_full_but_the_last_and_never_a_single_sample(num_samples: int, batch_size: int) -> None:
    sampler = EpochSampler(num_samples, batch_size, seed=1)
    sizes = [len(positions) for positions in sampler.rest_of_epoch()]
    assert len(sizes) == len(sampler)
    assert set(sizes[:-1]) <= {batch_size}
    assert sizes[-1] <= batch_size + 1
    if batch_size > 1 and num_samples > 1:
        assert min(sizes) > 1


@given(**SIZES, taken=st.integers(0, 100), other_seed=st.integers(0, 5))
def test_a_restored_sampler_goes_on_as_the_saved_one(
    num_samples: int, batch_size: int, taken: int, other_seed: int
) -> None:
    saved = EpochSampler(num_samples, batch_size, seed=1)
    for _ in range(taken // len(saved)):
        list(saved.rest_of_epoch())
    batches = saved.rest_of_epoch()
    for _ in range(taken % len(saved)):
        next(batches)
    restored = EpochSampler(num_samples, batch_size, seed=other_seed)
    restored.load_state_dict(saved.state_dict())
    assert [b.tolist() for b in restored.rest_of_epoch()] == [b.tolist() for b in batches]
    assert [b.tolist() for b in restored.rest_of_epoch()] == [b.tolist() for b in saved.rest_of_epoch()]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    sampler = EpochSampler(50, 50, seed=1)
    orders = [next(iter(sampler.rest_of_epoch())).tolist()]
    list(sampler.rest_of_epoch())
    orders += [torch.cat(list(sampler.rest_of_epoch())).tolist()]
    orders += [torch.cat(list(EpochSampler(50, 50, seed=2).rest_of_epoch())).tolist()]
    assert len({tuple(order) for order in orders}) == 3


def test_every_epoch_draws_anew_and_the_same_again_for_the_same_seed() -> None:
    sampler, again = EpochSampler(4, 2, seed=1), EpochSampler(4, 2, seed=1)
    draws = [sampler.draw]
    list(sampler.rest_of_epoch())
    draws += [sampler.draw, EpochSampler(4, 2, seed=2).draw]
    assert len(set(draws)) == 3
    again.load_state_dict(sampler.state_dict())
    assert again.draw == sampler.draw
