"""What became of each class: the share of its samples answered rightly, and which class lost most."""

# C = classes
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Shares = tuple[float | None, ...]


class ClassShares:
    """Right answers and samples of each class, counted batch by batch."""

    def __init__(self) -> None:
        self.counted: tuple[Tensor, Tensor] | None = None

    def add(self, hits: tuple[Tensor, Tensor] | None) -> None:
        """Count a batch: right answers and samples of each class (C,); None where there are no classes."""
        if hits is None:
            return
        before = self.counted
        self.counted = hits if before is None else (before[0] + hits[0], before[1] + hits[1])

    def shares(self) -> Shares:
        """Return each class's share of right answers, None where it has no sample; empty without classes."""
        if self.counted is None:
            return ()
        pairs = zip(*(each.tolist() for each in self.counted), strict=True)
        return tuple(right / count if count else None for right, count in pairs)


def worst_class(before: Sequence[float | None], after: Sequence[float | None]) -> tuple[int, float] | None:
    """Return the class that lost the largest share of right answers, and that share; None without classes.

    The first of several. What the worst class lost is negative if all classes gained.
    """
    pairs = enumerate(zip(before, after, strict=False))
    drops = {number: was - now for number, (was, now) in pairs if was is not None and now is not None}
    worst = max(drops, key=lambda number: drops[number], default=None)
    return None if worst is None else (worst, round(drops[worst], 6))
