from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcomp.sweep.waves import next_wave, waves

jobs_of_a_sweep = st.lists(st.frozensets(st.sampled_from("abcdef"), max_size=4), max_size=9)


def slow_waves(missing: list[frozenset[str]]) -> list[list[int]]:
    """Go through the jobs again and again; each starts if none of this round needs what it needs."""
    done: set[str] = set()
    waiting = dict(enumerate(missing))
    rounds = []
    while waiting:
        started: dict[int, frozenset[str]] = {}
        for number, keys in waiting.items():
            clash = [key for other in started.values() for key in other if key in keys and key not in done]
            if not clash:
                started[number] = keys
        for number, keys in started.items():
            del waiting[number]
            done = done.union(keys)
        rounds.append(sorted(started))
    return rounds


@given(jobs_of_a_sweep)
def test_waves_are_those_of_the_slow_way(missing: list[frozenset[str]]) -> None:
    assert waves(missing) == slow_waves(missing)


@given(jobs_of_a_sweep)
def test_every_job_starts_once_and_every_key_is_computed_by_one_job_of_a_wave(
    missing: list[frozenset[str]],
) -> None:
    done: set[str] = set()
    found = waves(missing)
    assert sorted(number for wave in found for number in wave) == list(range(len(missing)))
    for wave in found:
        assert wave == sorted(wave)
        for left, right in combinations(wave, 2):
            assert missing[left] & missing[right] <= done
        done.update(*(missing[number] for number in wave))


@given(jobs_of_a_sweep)
def test_a_job_waits_only_for_one_that_computes_what_it_needs(missing: list[frozenset[str]]) -> None:
    done: set[str] = set()
    for before, after in zip(waves(missing), waves(missing)[1:], strict=False):
        taken = set().union(*(missing[number] for number in before)) - done
        assert all(missing[number] & taken for number in after)
        done |= taken


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ([], []),
        ([set()], [[0]]),
        ([{"teacher", "a"}, {"teacher", "b"}, {"teacher", "c"}], [[0], [1, 2]]),
        ([{"a"}, {"a"}, {"a"}], [[0], [1, 2]]),
        ([{"t", "s0", "a"}, {"t", "s0", "b"}, {"t", "s1", "c"}, {"t", "s1", "d"}], [[0], [1, 2], [3]]),
        ([{"a"}, set(), {"b"}], [[0, 1, 2]]),
    ],
)
def test_waves_of_small_sweeps(missing: list[set[str]], expected: list[list[int]]) -> None:
    assert waves(missing) == expected


def test_what_failed_is_needed_still_and_is_not_started_twice_at_a_time() -> None:
    assert next_wave([{"teacher", "b"}, {"teacher", "c"}, {"d"}]) == [0, 2]
