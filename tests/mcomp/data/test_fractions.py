from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mcomp.data.fractions import Fractions, place, shared_out, spread

NAMES = st.lists(st.text(max_size=5), unique=True, max_size=60)
SHARES = {"validation": 0.2, "test": 0.3}


@given(NAMES, NAMES, st.integers(0, 9))
def test_a_new_sample_moves_no_other(names: list[str], new: list[str], seed: int) -> None:
    more = sorted({*names, *new})
    before = {names[at]: part for part, found in shared_out(names, SHARES, seed).items() for at in found}
    after = {more[at]: part for part, found in shared_out(more, SHARES, seed).items() for at in found}
    assert {name: after[name] for name in names} == before


@given(NAMES)
def test_every_sample_is_in_one_part(names: list[str]) -> None:
    parts = shared_out(names, SHARES, seed=0)
    assert sorted(position for found in parts.values() for position in found) == list(range(len(names)))


def test_parts_have_about_their_shares_and_train_the_rest() -> None:
    parts = shared_out([f"cat/{number}.png" for number in range(5000)], SHARES, seed=0)
    shares = {name: len(found) / 5000 for name, found in parts.items()}
    assert shares == pytest.approx({"train": 0.5, "validation": 0.2, "test": 0.3}, abs=0.02)


def test_another_seed_gives_other_parts() -> None:
    names = [str(number) for number in range(100)]
    assert shared_out(names, SHARES, seed=0) != shared_out(names, SHARES, seed=1)


def test_places_are_the_same_on_every_machine() -> None:
    assert place("cat/1.png", 0) == pytest.approx(0.101014, abs=1e-6)


@given(NAMES, st.integers(2, 20))
def test_a_spread_takes_what_it_is_asked_for_and_is_sorted(names: list[str], size: int) -> None:
    chosen = spread(names, size, seed=0)
    assert len(chosen) == min(size, len(names))
    assert chosen == sorted(set(chosen))


def test_a_spread_is_not_the_first_class() -> None:
    names = [f"{label}/{number}.png" for label in "abcd" for number in range(100)]
    assert {names[at][0] for at in spread(names, 40, seed=0)} == set("abcd")


def test_shares_that_leave_nothing_to_train_on_are_refused() -> None:
    with pytest.raises(ValidationError, match="below 1"):
        Fractions(validation=0.5, test=0.5)
