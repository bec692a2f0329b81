"""What holds for every observer."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mcomp_stages.methods.quantization.observers.choice import OBSERVERS, observer_for
from mcomp_stages.methods.quantization.observers.config import (
    KL,
    MSE,
    MinMax,
    MovingAverage,
    ObserverChoice,
    Percentile,
)
from mcomp_stages.methods.quantization.observers.observer import Integers
from tests.stages.methods.quantization.observers.streams import (
    ORDERLESS,
    SYMMETRIC,
    UNSIGNED,
    VALUES,
    laplace,
    observed,
)

ALL: tuple[ObserverChoice, ...] = (MinMax(), MovingAverage(), Percentile(), MSE(), KL())
KINDS = (UNSIGNED, SYMMETRIC, Integers(16), Integers(4, symmetric=True))

every = pytest.mark.parametrize("choice", ALL, ids=lambda choice: choice.type)
on_every_grid = pytest.mark.parametrize("grid", KINDS, ids=str)
without_order = pytest.mark.parametrize("choice", ORDERLESS, ids=lambda choice: choice.type)


def test_every_choice_of_a_recipe_has_an_observer() -> None:
    choices, _ = get_args(ObserverChoice)
    assert {part.model_fields["type"].default for part in get_args(choices)} == set(OBSERVERS)


@without_order
@settings(max_examples=30)
@given(values=VALUES, random=st.randoms(use_true_random=False), size=st.integers(1, 7))
def test_order_and_batches_change_nothing(
    choice: ObserverChoice, values: list[float], random: st.DataObject, size: int
) -> None:
    whole = observed(choice, [torch.tensor(values)])
    random.shuffle(values)  # type: ignore[attr-defined]
    assert observed(choice, list(torch.tensor(values).split(size))) == whole


@every
@pytest.mark.parametrize("num_before", [0, 1, 3])
def test_one_that_goes_on_from_a_state_has_the_same_range(choice: ObserverChoice, num_before: int) -> None:
    batches = [laplace(500, seed=seed) * (seed + 1) for seed in range(5)]
    first, second = observer_for(choice), observer_for(choice)
    for batch in batches[:num_before]:
        first.update(batch)
    second.restore({name: tensor.clone() for name, tensor in first.state().items()})
    for batch in batches[num_before:]:
        second.update(batch)
    assert tuple(bound.item() for bound in second.range(UNSIGNED)) == observed(choice, batches)


@every
@on_every_grid
@pytest.mark.parametrize("power", [-7, 3])
def test_values_times_a_power_of_two_have_that_range_times_it(
    choice: ObserverChoice, grid: Integers, power: int
) -> None:
    batches = list((laplace(2000) - 0.3).split(500))
    plain = observed(choice, batches, grid)
    scaled = observed(choice, [batch * 2.0**power for batch in batches], grid)
    assert scaled == tuple(bound * 2.0**power for bound in plain)


@every
@on_every_grid
def test_values_times_any_number_have_nearly_that_range_times_it(
    choice: ObserverChoice, grid: Integers
) -> None:
    values = laplace(20_000)
    (low, high), scaled = observed(choice, [values], grid), observed(choice, [values * 3.7], grid)
    # KL follows the noise of thin tails: where it cuts is known to some ten percent.
    rel = 0.15 if choice.type == "kl" else 0.02
    assert scaled == pytest.approx((low * 3.7, high * 3.7), rel=rel)


@every
@on_every_grid
@settings(max_examples=20)
@given(values=VALUES)
def test_the_range_is_within_the_values_and_zero(
    choice: ObserverChoice, grid: Integers, values: list[float]
) -> None:
    low, high = observed(choice, [torch.tensor(values)], grid)
    smallest, largest = min(values), max(values)
    if grid.symmetric:
        largest = max(abs(smallest), abs(largest))
        smallest = -largest
    assert low <= high
    assert min(smallest, 0) <= min(low, 0)
    assert max(high, 0) <= max(largest, 0)


@every
@on_every_grid
def test_a_constant_is_kept(choice: ObserverChoice, grid: Integers) -> None:
    for value in (3.5, -2.0):
        low, high = observed(choice, [torch.full((100,), value)], grid)
        assert min(low, 0) <= value <= max(high, 0)


@every
@on_every_grid
def test_nothing_but_zeros_has_the_range_zero(choice: ObserverChoice, grid: Integers) -> None:
    assert observed(choice, [torch.zeros(100)], grid) == (0, 0)


@every
def test_one_sided_values_keep_all_levels_on_their_side(choice: ObserverChoice) -> None:
    low, high = observed(choice, [laplace(2000).abs()])
    assert min(low, 0) == 0
    assert high > 1
    low, high = observed(choice, [-laplace(2000).abs()])
    assert max(high, 0) == 0
    assert low < -1


@every
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_not_finite_are_an_error(choice: ObserverChoice, bad: float) -> None:
    with pytest.raises(ValueError, match="1 of 2 values are not finite"):
        observed(choice, [torch.tensor([1.0, bad])])


@every
def test_without_values_there_is_no_range(choice: ObserverChoice) -> None:
    with pytest.raises(ValueError, match="no values were observed"):
        observer_for(choice).range(UNSIGNED)
