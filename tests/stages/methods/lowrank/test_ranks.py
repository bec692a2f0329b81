"""Costs of ranks, and ranks for a target."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mcomp.errors import StageError
from mcomp.measure.macs import count_macs
from mcomp_stages.methods.lowrank.layers_seen import layers_seen, positions
from mcomp_stages.methods.lowrank.ranks import ONCE, Ladder, by_cost, by_energy, cost, ladder
from mcomp_stages.methods.lowrank.thin import thin_layers

LAYERS: dict[str, tuple[nn.Module, tuple[int, ...], tuple[int, ...]]] = {
    "linear": (nn.Linear(12, 20), (2, 5, 12), (4,)),
    "pixels": (nn.Conv2d(12, 20, 1, stride=2), (2, 12, 8, 8), (4,)),
    "window": (nn.Conv2d(12, 20, 3, stride=2, padding=1), (2, 12, 8, 8), (4, 8)),
    "one_side": (nn.Conv2d(3, 20, 3), (2, 3, 8, 8), (3, 8)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_cost_is_that_of_the_thin_layers(name: str) -> None:
    layer, shape, ranks = LAYERS[name]
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    inputs = {"input": torch.randn(shape)}
    where = positions(layer, layers_seen(nn.Sequential(layer), ["0"], inputs)["0"])
    thin = thin_layers(layer, ranks)
    assert cost(layer, ranks, where) == count_macs(thin, inputs)
    assert cost(layer, None, where) == count_macs(layer, inputs)
    assert cost(layer, ranks, ONCE) == sum(each.weight.numel() for each in thin)


def test_steps_that_cost_more_lose_less_and_the_last_is_the_layer() -> None:
    steps = ladder(nn.Conv2d(16, 24, 3), ONCE, 2)
    assert steps.ranks[-1] is None
    assert steps.lost[-1] == 0
    assert (np.diff(steps.costs) > 0).all()
    assert (np.diff(steps.lost) < 0).all()


def test_a_layer_too_small_for_a_rank_stays() -> None:
    assert ladder(nn.Linear(8, 8), ONCE, 8).ranks == (None,)


def test_each_layer_keeps_its_share_of_energy_at_the_least_cost() -> None:
    layers = {"a": nn.Linear(32, 32), "b": nn.Linear(48, 24)}
    ladders = {name: ladder(layer, ONCE, 1) for name, layer in layers.items()}
    for name, ranks in by_energy(ladders, 0.6).items():
        lost = dict(zip(ladders[name].ranks, ladders[name].lost, strict=True))
        assert ranks is not None
        assert lost[ranks] <= 0.4 < lost[(ranks[0] - 1,)]


def test_energy_that_no_cheaper_rank_keeps_leaves_the_layer() -> None:
    assert by_energy({"a": ladder(nn.Linear(16, 16), ONCE, 1)}, 0.999) == {"a": None}


@st.composite
def ladder_sets(draw: st.DrawFn) -> dict[str, Ladder]:
    sizes = draw(st.lists(st.integers(2, 5), min_size=1, max_size=3))
    generator = np.random.default_rng(draw(st.integers(0, 1000)))
    return {
        str(number): Ladder(
            (*((rank + 1,) for rank in range(size - 1)), None),
            generator.uniform(1, 9, size).cumsum(),
            np.append(generator.uniform(0.1, 1, size - 1).cumsum()[::-1], 0.0),
        )
        for number, size in enumerate(sizes)
    }


@given(ladder_sets(), st.floats(0.0, 1.0))
@settings(max_examples=60, deadline=None)
def test_ranks_fit_the_target_and_lose_little_more_than_the_best(
    ladders: dict[str, Ladder], where: float
) -> None:
    whole, least = (sum(each.costs[at] for each in ladders.values()) for at in (-1, 0))
    target = least + where * (whole - least)
    chosen = by_cost(ladders, 0.0, target, "multiply-adds", nearest=True)
    steps = {path: each.ranks.index(chosen[path]) for path, each in ladders.items()}
    assert sum(each.costs[steps[path]] for path, each in ladders.items()) <= target + 1e-9
    every = product(*(range(len(each.ranks)) for each in ladders.values()))
    fitting = [
        sum(each.lost[step] for step, each in zip(some, ladders.values(), strict=True))
        for some in every
        if sum(each.costs[step] for step, each in zip(some, ladders.values(), strict=True)) <= target + 1e-9
    ]
    lost = sum(each.lost[steps[path]] for path, each in ladders.items())
    # What relaxing to a price can lose is at most one layer's largest step.
    largest = max(float(-np.diff(each.lost).min()) for each in ladders.values())
    assert lost <= min(fitting) + 2 * largest


def test_a_target_below_the_lowest_ranks_is_refused() -> None:
    with pytest.raises(StageError, match=r"cannot keep only 1.0% of the parameters: .* is the smallest"):
        by_cost({"a": ladder(nn.Linear(32, 32), ONCE, 8)}, 0.0, 10.24, "parameters")


def test_a_target_between_ranks_is_refused_unless_the_nearest_will_do() -> None:
    ladders = {"a": ladder(nn.Linear(64, 64), ONCE, 16)}
    with pytest.raises(StageError, match=r"no ranks keep between 81.0% and 90.0%"):
        by_cost(ladders, 0.0, 0.9 * 4096, "parameters")
    assert by_cost(ladders, 0.0, 0.9 * 4096, "parameters", nearest=True) == {"a": (16,)}
