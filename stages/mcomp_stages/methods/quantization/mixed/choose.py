"""One option for each layer, so that the sum of their costs is smallest within a budget, or the sum of sizes.

The exact answer keeps every sum of sizes that no other sum beats in size and cost (the Pareto front of a
multiple-choice knapsack, layer by layer). Where these become too many, layers are lowered one by one, the
one first that costs least for what it saves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MOST_STATES = 20_000


@dataclass(frozen=True)
class Option:
    """One width of a layer: what it takes and what it costs."""

    bits: int
    size: float
    cost: float


@dataclass(frozen=True)
class Choice:
    """An option for each layer, by position, and their sums."""

    bits: tuple[int, ...]
    size: float
    cost: float


Layers = Sequence[Sequence[Option]]


def front(layers: Layers) -> list[Choice] | None:
    """Return the choices that no other beats, the smallest first; None if there are too many."""
    kept = [Choice((), 0.0, 0.0)]
    for options in layers:
        grown = [
            Choice((*choice.bits, option.bits), choice.size + option.size, choice.cost + option.cost)
            for choice in kept
            for option in options
        ]
        kept = undominated(grown)
        if len(kept) > MOST_STATES:
            return None
    return kept


def undominated(choices: list[Choice]) -> list[Choice]:
    """Return the choices that cost less than all smaller ones, the smallest first."""
    found: list[Choice] = []
    for choice in sorted(choices, key=lambda each: (each.size, each.cost)):
        if not found or choice.cost < found[-1].cost:
            found.append(choice)
    return found


def steps_down(layers: Layers) -> list[Choice]:
    """Return the choices on the way from the widest to the smallest, a step of one layer at a time."""
    ordered = [sorted(options, key=lambda each: -each.size) for options in layers]
    place = [0] * len(layers)
    path = [total(ordered, place)]
    while True:
        moves = [
            (slope(options[at], options[lower]), position, lower)
            for position, (options, at) in enumerate(zip(ordered, place, strict=True))
            for lower in range(at + 1, len(options))
        ]
        if not moves:
            return path
        _, position, lower = min(moves)
        place[position] = lower
        path.append(total(ordered, place))


def slope(wider: Option, narrower: Option) -> float:
    """Return what a step down costs for what it saves."""
    saved = wider.size - narrower.size
    return (narrower.cost - wider.cost) / saved if saved > 0 else float("inf")


def total(layers: Layers, place: Sequence[int]) -> Choice:
    """Return the choice of one option for each layer."""
    chosen = [options[at] for options, at in zip(layers, place, strict=True)]
    return Choice(
        tuple(option.bits for option in chosen),
        sum(option.size for option in chosen),
        sum(option.cost for option in chosen),
    )


def smallest_cost(layers: Layers, largest_size: float) -> tuple[Choice, bool] | None:
    """Return the cheapest choice of at most a size, and whether it is the best; None if all are larger."""
    exact = front(layers)
    candidates = [each for each in exact or steps_down(layers) if each.size <= largest_size * (1 + 1e-12)]
    if not candidates:
        return None
    return min(candidates, key=lambda each: (each.cost, each.size)), exact is not None


def smallest_size(layers: Layers, largest_cost: float) -> tuple[Choice, bool] | None:
    """Return the smallest choice of at most a cost, and whether it is the best; None if all cost more."""
    exact = front(layers)
    candidates = [each for each in exact or steps_down(layers) if each.cost <= largest_cost + 1e-12]
    if not candidates:
        return None
    return min(candidates, key=lambda each: (each.size, each.cost)), exact is not None
