"""Disjoint sets against the obvious slow version."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mcomp_stages.methods.pruning.union_find import UnionFind

SIZE = 12
pairs = st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(0, SIZE - 1)), max_size=20)


def slow_smallest_member(united: list[tuple[int, int]]) -> list[int]:
    smallest = list(range(SIZE))
    for _ in range(SIZE):
        for left, right in united:
            smallest[left] = smallest[right] = min(smallest[left], smallest[right])
    return smallest


@given(batches=st.lists(pairs, max_size=4))
def test_representative_is_the_smallest_member(batches: list[list[tuple[int, int]]]) -> None:
    sets = UnionFind()
    members = sets.add(SIZE)
    for batch in batches:
        left, right = np.array(batch, dtype=np.int64).reshape(-1, 2).T
        sets.union(left, right)
    assert sets.find(members).tolist() == slow_smallest_member([pair for batch in batches for pair in batch])


def test_union_tells_whether_anything_changed() -> None:
    sets = UnionFind()
    members = sets.add(3)
    assert sets.union(members[:2], members[1:])
    assert not sets.union(members[:1], members[2:])


def test_members_added_later_are_alone() -> None:
    sets = UnionFind()
    first = sets.add(2)
    sets.union(first[:1], first[1:])
    assert sets.find(sets.add(2)).tolist() == [2, 3]
