"""The ranks of all layers for a target, and which layers are better left as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from mcomp.errors import StageError
from mcomp_stages.methods.lowrank.candidates import Candidate
from mcomp_stages.methods.lowrank.edit import Factorized, LowRank
from mcomp_stages.methods.lowrank.ranks import ONCE, Ladder, Ranks, by_cost, by_energy, cost, ladder

Quantity = Literal["macs", "params"]
NOUNS: Mapping[Quantity, str] = {"macs": "multiply-adds", "params": "parameters"}

Speedup = Callable[[Candidate, Ranks], float]


@dataclass(frozen=True)
class Choice:
    """What ranks are chosen among. `totals` are the multiply-adds and parameters of the whole model.

    `speedup` says how many times faster a layer is at its ranks; without it, fewer multiply-adds are taken
    for faster.
    """

    candidates: Mapping[str, Candidate]
    given: Mapping[str, Ranks]
    totals: Mapping[str, float]
    round_to: int
    nearest: bool
    speedup: Speedup | None = None

    def keeping_energy(self, share: float) -> Chosen:
        """Return ranks with which each layer keeps a share of its energy."""
        return self._without_slow(lambda free: by_energy(self._ladders("macs", free), share))

    def keeping(self, quantity: Quantity, share: float, *, nearest: bool | None = None) -> Chosen:
        """Return ranks with which the model keeps at most a share of a quantity.

        Raises StageError if there are none.
        """
        nearest = self.nearest if nearest is None else nearest

        def chosen(free: Mapping[str, Candidate]) -> dict[str, Ranks | None]:
            ladders = self._ladders(quantity, free)
            in_ladders = sum(float(each.costs[-1]) for each in ladders.values())
            fixed = self.totals[quantity] - in_ladders - self._saved(quantity)
            return by_cost(ladders, fixed, share * self.totals[quantity], NOUNS[quantity], nearest)

        return self._without_slow(chosen)

    def as_given(self) -> Chosen:
        """Return only the ranks that were given."""
        return self._without_slow(lambda free: dict.fromkeys(free))

    def smallest_share(self, quantity: Quantity) -> float:
        """Return the share of a quantity that stays at the lowest ranks."""
        ladders = self._ladders(quantity, self._free())
        saved = sum(each.costs[-1] - each.costs[0] for each in ladders.values())
        return 1 - (float(saved) + self._saved(quantity)) / self.totals[quantity]

    def _free(self) -> dict[str, Candidate]:
        return {path: each for path, each in self.candidates.items() if path not in self.given}

    def _saved(self, quantity: Quantity) -> float:
        """What the given ranks save."""
        return sum(
            self._cost(quantity, self.candidates[path], None)
            - self._cost(quantity, self.candidates[path], ranks)
            for path, ranks in self.given.items()
        )

    def _cost(self, quantity: Quantity, each: Candidate, ranks: Ranks | None) -> float:
        return cost(each.layer, ranks, each.positions if quantity == "macs" else ONCE)

    @cached_property
    def _known(self) -> dict[tuple[Quantity, str], Ladder]:
        return {}

    def _ladders(self, quantity: Quantity, free: Mapping[str, Candidate]) -> dict[str, Ladder]:
        for path, each in free.items():
            if (quantity, path) not in self._known:
                where = each.positions if quantity == "macs" else ONCE
                self._known[quantity, path] = ladder(each.layer, where, self.round_to)
        return {path: self._known[quantity, path] for path in free}

    def _without_slow(self, choose: Callable[[Mapping[str, Candidate]], dict[str, Ranks | None]]) -> Chosen:
        """Choose again without the layers that would not get faster, until none of them is chosen."""
        free, slow = self._free(), dict[str, str]()
        while True:
            ranks = {**choose(free), **self.given}
            new = {
                path: reason
                for path, each in ranks.items()
                if each is not None and path not in slow and (reason := self._slow(path, each))
            }
            slow |= new
            if not new:
                chosen = {path: each for path, each in ranks.items() if each is not None and path not in slow}
                return Chosen(self.candidates, chosen, slow)
            free = {path: each for path, each in free.items() if path not in slow}

    def _slow(self, path: str, ranks: Ranks) -> str:
        """Return why a layer would not get faster, or ""."""
        each = self.candidates[path]
        if self._cost("macs", each, ranks) >= self._cost("macs", each, None):
            return f"has no fewer multiply-adds at {list(ranks)}"
        if self.speedup is None:
            return ""
        times = self.speedup(each, ranks)
        return "" if times > 1 else f"takes {1 / times:.2f} times as long at {list(ranks)} in ONNX Runtime"


@dataclass(frozen=True)
class Chosen:
    """The ranks of the layers that are factorized, and why others would not get faster."""

    candidates: Mapping[str, Candidate]
    ranks: Mapping[str, Ranks]
    slow: Mapping[str, str]

    def edit(self) -> LowRank:
        """Return the change. Raises StageError if there is none."""
        if not self.ranks:
            why = "; ".join(f"{path} {reason}" for path, reason in list(self.slow.items())[:3])
            raise StageError(
                f"no layer was factorized{f': {why}' if why else ': each costs more at the ranks asked for'}"
            )
        return LowRank(
            layers=tuple(Factorized(module=path, ranks=ranks) for path, ranks in self.ranks.items())
        )

    def facts(self) -> dict[str, Any]:
        """Return ranks by layer, and the layers that stay with the reason."""
        return {"ranks": {path: list(ranks) for path, ranks in self.ranks.items()}, "left": dict(self.slow)}
