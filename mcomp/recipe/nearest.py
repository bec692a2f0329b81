"""What somebody probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return "did you mean 'x'?" for the choice nearest to `name`, or "" if none is near."""
    lowered = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(name.lower(), lowered, n=1)
    return f"did you mean '{lowered[near[0]]}'?" if near else ""


def one_of(choices: Iterable[str]) -> str:
    """Return the choices as words: "one of 'a', 'b'", or "nothing" if there are none."""
    listed = ", ".join(f"'{choice}'" for choice in choices)
    return f"one of {listed}" if listed else "nothing"
