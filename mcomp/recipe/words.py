"""One mistake in a value, and how it is said: what is wrong and, where that is known, what to write."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mcomp.recipe.fields import Location
from mcomp.recipe.nearest import did_you_mean
from mcomp.recipe.places import KeyPath
from mcomp.recipe.scalars import AmbiguousScalar, read_plain
from mcomp.recipe.schema import NAME


@dataclass(frozen=True)
class Mistake:
    """One line of a validation error: pydantic's location, and the path in the recipe that it means.

    `branch`: the path of the union that the error is in and the member it belongs to, if it is in one.
    """

    kind: str
    location: Location
    path: KeyPath
    context: dict[str, Any]
    value: Any
    message: str
    branch: tuple[KeyPath, str | int] | None


def words(mistake: Mistake) -> tuple[str, str]:
    """Return what is wrong with a value and, where it is known, what to do."""
    if mistake.kind in CHOICES:
        return choices(mistake)
    if mistake.kind in WORDS:
        return WORDS[mistake.kind](mistake), ""
    if mistake.kind in TYPES:
        return f"must be {TYPES[mistake.kind]}, not {shown(mistake.value)}", as_meant(mistake)
    return re.sub(r"^(Value error|Assertion failed), |^Input should", "", mistake.message).strip(), ""


def as_meant(mistake: Mistake) -> str:
    """Return how to write a value that means the right thing and is of the wrong type."""
    value = mistake.value
    if mistake.kind == "int_type" and isinstance(value, float) and value.is_integer():
        return f"write {int(value)}"
    meant = MEANT.get(mistake.kind)
    if meant and isinstance(value, str):
        with suppress(AmbiguousScalar):
            if type(read_plain(value)) in meant:
                return "remove the quotes"
    return ""


def choices(mistake: Mistake) -> tuple[str, str]:
    """Return what to choose from, and the nearest choice."""
    listed = str(mistake.context.get("expected") or mistake.context.get("expected_tags"))
    given = mistake.context.get("tag", mistake.value)
    near = did_you_mean(given, re.findall(r"'([^']*)'", listed)) if isinstance(given, str) else ""
    return f"must be {listed}, not {shown(given)}", near


def shown(value: Any) -> str:
    """Return a value as it may stand in a message."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    names = {None: "null", True: "true", False: "false"}
    text = names[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def limit(sentence: str) -> Callable[[Mistake], str]:
    """Return the words for a limit that pydantic gives in the error's context."""
    return lambda mistake: f"{sentence.format(**mistake.context)}, not {shown(mistake.value)}"


def counted(sentence: str) -> Callable[[Mistake], str]:
    """Return the words for a wrong number of items."""
    return lambda mistake: sentence.format(**mistake.context)


def pattern(mistake: Mistake) -> str:
    """Return what a text must be like."""
    return PATTERNS.get(mistake.context["pattern"], f"match {mistake.context['pattern']}")


PATTERNS = {NAME: "be a name of letters, digits, - and _ that starts with a letter"}

CHOICES = frozenset({"literal_error", "union_tag_invalid", "enum"})

# The types that a quoted value stands for.
MEANT: dict[str, tuple[type, ...]] = {"int_type": (int,), "float_type": (int, float), "bool_type": (bool,)}

TYPES = {
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a string",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "list_type": "a list",
    "tuple_type": "a list",
    "none_required": "null",
}

WORDS: dict[str, Callable[[Mistake], str]] = {
    "missing": lambda mistake: "is missing",
    "union_tag_not_found": lambda mistake: "is missing",
    "union_type": limit("must be {types}"),
    "greater_than": limit("must be above {gt}"),
    "greater_than_equal": limit("must be at least {ge}"),
    "less_than": limit("must be below {lt}"),
    "less_than_equal": limit("must be at most {le}"),
    "multiple_of": limit("must be a multiple of {multiple_of}"),
    "finite_number": limit("must be finite"),
    "too_short": counted("must hold at least {min_length}, it holds {actual_length}"),
    "too_long": counted("must hold at most {max_length}, it holds {actual_length}"),
    "string_pattern_mismatch": lambda mistake: f"must {pattern(mistake)}, not {shown(mistake.value)}",
    "invalid_key": limit("a key must be a string"),
}
