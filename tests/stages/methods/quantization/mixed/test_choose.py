"""The choice of widths against all choices there are."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcomp_stages.methods.quantization.mixed import choose
from mcomp_stages.methods.quantization.mixed.choose import (
    Choice,
    Option,
    front,
    smallest_cost,
    smallest_size,
    steps_down,
)

OPTIONS = st.lists(
    st.builds(Option, st.sampled_from([2, 4, 8]), st.integers(1, 9), st.integers(0, 9)),
    min_size=1,
    max_size=3,
)
LAYERS = st.lists(OPTIONS, min_size=1, max_size=4)


def all_choices(layers: list[list[Option]]) -> list[Choice]:
    return [
        Choice(
            tuple(each.bits for each in every),
            sum(each.size for each in every),
            sum(each.cost for each in every),
        )
        for every in product(*layers)
    ]


@given(layers=LAYERS, limit=st.integers(1, 40))
def test_the_exact_choice_is_the_best_of_all(layers: list[list[Option]], limit: int) -> None:
    within = [each for each in all_choices(layers) if each.size <= limit]
    found = smallest_cost(layers, limit)
    assert (found is None) == (not within)
    if found:
        assert found[1]
        assert found[0].size <= limit
        assert found[0].cost == min(each.cost for each in within)
    cheap = [each for each in all_choices(layers) if each.cost <= limit]
    small = smallest_size(layers, limit)
    assert (small is None) == (not cheap)
    if small:
        assert small[0].size == min(each.size for each in cheap)
        assert small[0].cost <= limit


@given(layers=LAYERS)
def test_a_front_holds_what_nothing_beats(layers: list[list[Option]]) -> None:
    kept = front(layers)
    assert kept is not None
    everything = all_choices(layers)
    for each in kept:
        no_larger = [other for other in everything if other.size <= each.size]
        assert each.cost == min(other.cost for other in no_larger)
        assert each.size == min(other.size for other in no_larger if other.cost == each.cost)


@given(layers=LAYERS)
def test_steps_down_end_at_the_smallest(layers: list[list[Option]]) -> None:
    path = steps_down(layers)
    assert path[-1].size == sum(min(each.size for each in every) for every in layers)
    assert all(later.size <= earlier.size for earlier, later in pairwise(path))


def test_many_layers_are_lowered_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [[Option(8, 8, 0.0), Option(2, 2, 1.0 + number)] for number in range(6)]
    monkeypatch.setattr(choose, "MOST_STATES", 3)
    found = smallest_cost(layers, 30)
    assert found is not None
    choice, is_exact = found
    assert not is_exact
    assert choice.bits == (2, 2, 2, 8, 8, 8)
