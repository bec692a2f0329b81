"""What somebody probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Two short names that differ in one letter of two (`l2`, `l3`) are half alike.
ALIKE, SHORT_ALIKE, SHORT = 0.6, 0.5, 3


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return "did you mean 'x'?" for the choice nearest to `name`, or "" if none is near.

    A choice is near if it is spelt alike, or if `name` is one of its dotted parts and of no other choice's.
    """
    lowered = {choice.lower(): choice for choice in choices}
    parts = [choice for choice in lowered if name.lower() in choice.split(".")]
    cutoff = SHORT_ALIKE if len(name) <= SHORT else ALIKE
    near = parts if len(parts) == 1 else difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=cutoff)
    return f"did you mean '{lowered[near[0]]}'?" if near else ""


def one_of(choices: Iterable[str]) -> str:
    """Return the choices as words: "one of 'a', 'b'", or "nothing" if there are none."""
    listed = ", ".join(f"'{choice}'" for choice in choices)
    return f"one of {listed}" if listed else "nothing"
