"""Disjoint sets of whole arrays of integers at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


class UnionFind:
    """Disjoint sets over 0, 1, 2, ...; a set is represented by its smallest member."""

    def __init__(self) -> None:
        self._parent: Integers = np.zeros(0, dtype=np.int64)

    def add(self, count: int) -> Integers:
        """Return `count` new members, each alone in its set."""
        fresh = np.arange(len(self._parent), len(self._parent) + count, dtype=np.int64)
        self._parent = np.concatenate([self._parent, fresh])
        return fresh

    def find(self, members: Integers) -> Integers:
        """Return the representatives of `members` (any shape)."""
        roots = np.asarray(self._parent[members])
        while not np.array_equal(above := np.asarray(self._parent[roots]), roots):
            roots = above
        self._parent[members] = roots
        return roots

    def union(self, left: Integers, right: Integers) -> bool:
        """Unite the sets of `left` and `right` element by element; return whether anything changed."""
        changed = False
        while True:
            left, right = np.broadcast_arrays(self.find(left), self.find(right))
            apart = left != right
            if not apart.any():
                return changed
            changed = True
            left, right = left[apart], right[apart]
            # A root is hooked under a smaller one, so there are no cycles. Where one root is hooked several
            # times in a round the last write wins, and the next round unites what that lost.
            self._parent[np.maximum(left, right)] = np.minimum(left, right)
