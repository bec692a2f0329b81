from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mcomp.sweep.waves import next_wave, waves

MISSING = st.lists(st.sets(st.sampled_from("abcdef"), min_size=1, max_size=4), max_size=8)


@given(MISSING)
def test_every_job_is_in_one_wave_and_none_shares_work_with_another_of_its_wave(
    missing: list[set[str]],
) -> None:
    found = waves(missing)
    assert sorted(number for wave in found for number in wave) == list(range(len(missing)))
    done: set[str] = set()
    for wave in found:
        left = [missing[number] - done for number in wave]
        assert sum(map(len, left)) == len(set().union(*left))
        done |= set().union(*left)


@given(MISSING)
def test_a_wave_takes_every_job_that_fits_beside_those_before_it(missing: list[set[str]]) -> None:
    wave = next_wave(missing)
    for number in set(range(len(missing))) - set(wave):
        earlier = [missing[each] for each in wave if each < number]
        assert missing[number] & set().union(*earlier)


def test_shared_work_is_done_by_the_first_and_the_rest_follows_together() -> None:
    assert waves([{"shared", "a"}, {"shared", "b"}, {"shared", "c"}]) == [[0], [1, 2]]


def test_jobs_without_shared_work_start_together() -> None:
    assert waves([{"a"}, {"b"}]) == [[0, 1]]
    assert waves([]) == []
