"""Which jobs may run at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet


def waves(missing: Sequence[AbstractSet[str]]) -> list[list[int]]:
    """Return the positions of the jobs in waves; `missing` are the keys that each job has to compute.

    No two jobs of a wave need the same key, and what a wave needs counts as done after it. Each job comes as
    early as those before it allow.
    """
    found: list[list[int]] = []
    left = list(range(len(missing)))
    done: set[str] = set()
    while left:
        first = next_wave([missing[number] - done for number in left])
        found.append([left[position] for position in first])
        done.update(*(missing[number] for number in found[-1]))
        started = set(found[-1])
        left = [number for number in left if number not in started]
    return found


def next_wave(missing: Sequence[AbstractSet[str]]) -> list[int]:
    """Return the positions of the jobs that may start together now: none needs what one before it needs."""
    wave: list[int] = []
    taken: set[str] = set()
    for number, keys in enumerate(missing):
        if taken.isdisjoint(keys):
            wave.append(number)
            taken |= keys
    return wave
