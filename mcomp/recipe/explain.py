"""Pydantic's validation errors as problems of a recipe: one for each mistake, at its place, in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from mcomp.errors import Problem
from mcomp.recipe.fields import Location, choices, description, elsewhere, example, possible_keys
from mcomp.recipe.nearest import did_you_mean, one_of
from mcomp.recipe.places import KeyPath, Places, dotted, holds, in_order
from mcomp.recipe.words import TYPES, Mistake, words

MAX_TOLD = 50

# How pydantic calls a value that is of another type than the mapping or list that is meant.
MISWRITTEN = ("model_type", "model_attributes_type", "list_type", "tuple_type", "union_type")


def explain(
    error: ValidationError, model: type[BaseModel], data: Any, places: Places, prefix: KeyPath = ()
) -> list[Problem]:
    """Return the problems in `data`, the value at `prefix` of the recipe, that `model` refused.

    Of very many mistakes the first are told.
    """
    lines = error.errors(include_url=False)[:MAX_TOLD]
    mistakes = without_cascades([read(line, data) for line in lines])
    unknown = [mistake for mistake in mistakes if mistake.kind == "extra_forbidden"]
    return in_order(
        problem(mistake, model, data, places, (*prefix, *mistake.path))
        for mistake in mistakes
        if not follows(mistake, mistakes) and not any(means(each, mistake, model) for each in unknown)
    )


def means(unknown: Mistake, other: Mistake, model: type[BaseModel]) -> bool:
    """Whether an unknown key is probably the one that is missing, or belongs into the mapping that is not
    there, so that there is one mistake and not two.
    """
    if unknown.path[:-1] != other.path[:-1]:
        return False
    name, wanted = str(unknown.path[-1]), str(other.path[-1:] and other.path[-1])
    if other.kind == "missing" and did_you_mean(name, [wanted]):
        return True
    return other.value is None and elsewhere(model, unknown.location).startswith(f"{wanted}.")


def follows(mistake: Mistake, mistakes: Sequence[Mistake]) -> bool:
    """Whether a list is only too short because what it holds is wrong."""
    length = len(mistake.location)
    inside = [each for each in mistakes if len(each.location) > length]
    return mistake.kind == "too_short" and any(each.location[:length] == mistake.location for each in inside)


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
        elif branch is None and not is_the_only_one(part, here):
            branch = (tuple(path), part)
    context = line.get("ctx", {})
    return Mistake(line["type"], location, tuple(path), context, line["input"], line["msg"], branch)


def is_the_only_one(part: str | int, here: Any) -> bool:
    """Whether a part of a location stands for the one member that a mapping can be: the one of its `type`, or
    the first of a list that the mapping stands for.
    """
    return isinstance(here, dict) and (part == 0 or part == here.get("type"))


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


def problem(mistake: Mistake, model: type[BaseModel], data: Any, places: Places, path: KeyPath) -> Problem:
    """Return the problem, at the key if the key is wrong and at the value otherwise."""
    if mistake.kind == "extra_forbidden":
        look_alike = "" if str(path[-1]).isascii() else f", spelt {path[-1]!a}"
        next_step = left_over(places, path) or known_key(mistake, model, data)
        return places.problem(path, f"unknown key{look_alike}", next_step, at_key=True)
    if mistake.kind.startswith("union_tag"):
        path = (*path, discriminator(mistake))
    at_key = mistake.location[-1:] == ("[key]",)
    what, next_step = words(mistake)
    next_step = next_step or written_out(mistake, model)
    meaning = description(model, mistake.location)
    if not next_step and meaning and mistake.kind not in ("value_error", "assertion_error"):
        next_step = f"it is: {meaning}"
    next_step = next_step or overridden_inside(mistake, places, path)
    return places.problem(path, what, next_step, at_key=at_key)


def left_over(places: Places, path: KeyPath) -> str:
    """Return how to drop a key that suited the recipe's own `type`, when an override names another one."""
    chooser = places.override_of((*path[:-1], "type"))
    if chooser is None or places.override_of(path) is not None:
        return ""
    return f"{chooser.text} changes the type and keeps the other keys: add ~{dotted(path)}"


def known_key(mistake: Mistake, model: type[BaseModel], data: Any) -> str:
    """Return what to write for an unknown key: the nearest, where it belongs, or all that there are."""
    keys = possible_keys(model, mistake.location)
    key = mistake.path[-1]
    if near := did_you_mean(str(key), keys):
        return near
    values = data.items() if len(mistake.path) == 1 else ()
    given = [f"{name}.{key}" for name, value in values if isinstance(value, dict) and key in value]
    place = elsewhere(model, mistake.location) or (given[0] if len(given) == 1 else "")
    return f"did you mean '{place}'?" if place else f"possible here: {', '.join(keys)}"


def written_out(mistake: Mistake, model: type[BaseModel]) -> str:
    """Return how to write what is no mapping, or no list, where one is meant, or which kinds there are."""
    value = mistake.value
    if mistake.kind == "union_tag_not_found":
        return f"it must be {one_of(choices(model, mistake.location, discriminator(mistake)))}"
    if value is None or isinstance(value, bool) or mistake.kind not in MISWRITTEN:
        return ""
    is_list = mistake.kind in ("list_type", "tuple_type")
    if isinstance(value, dict):
        return "put it in a list: [{...}]" if is_list else ""
    location = (*mistake.location, 0) if is_list else mistake.location
    bare = value if isinstance(value, str) else str(value)
    meant = "" if isinstance(value, list) else example(model, location, bare)
    if is_list and meant:
        return f"write [{meant}]"
    if meant.startswith("{"):
        return f"write {meant}"
    kinds = choices(model, location, "type")
    return f"its `type` is {one_of(kinds)}" if len(kinds) > 1 else ""


def discriminator(mistake: Mistake) -> str:
    """Return the key that tells the members of a union apart."""
    return str(mistake.context["discriminator"]).strip("'")


def overridden_inside(mistake: Mistake, places: Places, path: KeyPath) -> str:
    """Return which overrides changed something inside a mapping that is wrong as a whole."""
    inside = [each.text for each in places.overrides if each.path[: len(path)] == path != each.path]
    return f"overridden: {', '.join(inside)}" if inside and mistake.kind == "value_error" else ""
