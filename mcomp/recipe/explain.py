"""Pydantic's validation errors as problems of a recipe: one for each mistake, at its place, in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from mcomp.errors import Problem
from mcomp.recipe.fields import Location, description, possible_keys
from mcomp.recipe.nearest import did_you_mean
from mcomp.recipe.places import KeyPath, Places, holds, in_order
from mcomp.recipe.scalars import AmbiguousScalar, read_plain


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


def explain(
    error: ValidationError, model: type[BaseModel], data: Any, places: Places, prefix: KeyPath = ()
) -> list[Problem]:
    """Return the problems in `data`, the value at `prefix` of the recipe, that `model` refused."""
    mistakes = without_cascades([read(line, data) for line in error.errors(include_url=False)])
    unknown = [mistake.path for mistake in mistakes if mistake.kind == "extra_forbidden"]
    return in_order(
        problem(mistake, model, places, (*prefix, *mistake.path))
        for mistake in mistakes
        if mistake.kind != "missing" or not any(misspelt(path, mistake.path) for path in unknown)
    )


def misspelt(unknown: KeyPath, missing: KeyPath) -> bool:
    """Whether an unknown key is probably the missing one, so that there is one mistake and not two."""
    return unknown[:-1] == missing[:-1] and bool(did_you_mean(str(unknown[-1]), [str(missing[-1])]))


def read(line: Any, data: Any) -> Mistake:
    """Return one line of a validation error with the parts that are no keys taken out of its location."""
    location: Location = line["loc"]
    path: list[str | int] = []
    branch = None
    here = data
    for index, part in enumerate(location):
        if holds(here, part):
            path.append(part)
            here = here[part]
        elif index == len(location) - 1 and line["type"] == "missing":
            path.append(part)
        elif branch is None:
            branch = (tuple(path), part)
    context = line.get("ctx", {})
    return Mistake(line["type"], location, tuple(path), context, line["input"], line["msg"], branch)


def without_cascades(mistakes: Iterable[Mistake]) -> list[Mistake]:
    """Return the mistakes with one member kept of each union: the one that the value was meant for.

    A value of the wrong type for every member is one mistake, told in the words of all of them.
    """
    kept: list[Mistake] = []
    unions: dict[KeyPath, dict[str | int, list[Mistake]]] = {}
    for mistake in mistakes:
        if mistake.branch is None:
            kept.append(mistake)
        else:
            path, member = mistake.branch
            unions.setdefault(path, {}).setdefault(member, []).append(mistake)
    for path, members in unions.items():
        fitting = [each for each in members.values() if not all(wrong_type(one, path) for one in each)]
        if fitting:
            kept += sorted(fitting, key=len)[0]
        else:
            kept.append(together([one for each in members.values() for one in each]))
    return kept


def wrong_type(mistake: Mistake, path: KeyPath) -> bool:
    """Whether a mistake says that the value at `path` is of another type altogether."""
    return mistake.path == path and mistake.kind in TYPES


def together(mistakes: list[Mistake]) -> Mistake:
    """Return one mistake for a value that is of none of the types that were possible."""
    first = mistakes[0]
    names = dict.fromkeys(TYPES[mistake.kind] for mistake in mistakes)
    return Mistake(
        "union_type", first.location, first.path, {"types": " or ".join(names)}, first.value, "", None
    )


def problem(mistake: Mistake, model: type[BaseModel], places: Places, path: KeyPath) -> Problem:
    """Return the problem, at the key if the key is wrong and at the value otherwise."""
    if mistake.kind == "extra_forbidden":
        keys = possible_keys(model, mistake.location)
        next_step = did_you_mean(str(path[-1]), keys) or f"possible here: {', '.join(keys)}"
        return places.problem(path, "unknown key", next_step, at_key=True)
    if mistake.kind.startswith("union_tag"):
        path = (*path, mistake.context["discriminator"].strip("'"))
    at_key = mistake.location[-1:] == ("[key]",)
    what, next_step = words(mistake)
    meaning = description(model, mistake.location)
    if not next_step and meaning and mistake.kind not in ("value_error", "assertion_error"):
        next_step = f"it is: {meaning}"
    next_step = next_step or overridden_inside(mistake, places, path)
    return places.problem(path, what, next_step, at_key=at_key)


def overridden_inside(mistake: Mistake, places: Places, path: KeyPath) -> str:
    """Return which overrides changed something inside a mapping that is wrong as a whole."""
    inside = [each.text for each in places.overrides if each.path[: len(path)] == path != each.path]
    return f"overridden: {', '.join(inside)}" if inside and mistake.kind == "value_error" else ""


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
    "too_short": limit("must hold at least {min_length}, it holds {actual_length}"),
    "too_long": limit("must hold at most {max_length}, it holds {actual_length}"),
    "string_pattern_mismatch": limit("must match {pattern}"),
    "invalid_key": limit("a key must be a string"),
}
