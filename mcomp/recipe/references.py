"""`${model.depth}`: a value that stands for another key's value. Nothing else may follow `${`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mcomp.errors import Problem, RecipeError
from mcomp.recipe.nearest import did_you_mean
from mcomp.recipe.places import KeyPath, Places, in_order

REFERENCE = re.compile(r"\$\{([A-Za-z_][\w-]*(?:\.[\w-]+)*)\}")
MAX_NODES = 20_000
MAX_TEXT = 64 * 1024
MISSING = "???"


def is_plain(text: str) -> bool:
    """Whether every `${` in `text` opens a plain reference: no resolver, nesting, brackets or escapes."""
    return "${" not in REFERENCE.sub("", text) and "\\${" not in text


def resolve(data: dict[str, Any], places: Places) -> dict[str, Any]:
    """Return `data` with each reference replaced by the value it stands for.

    Raises RecipeError with every reference that leads nowhere, in a circle, or to too much.
    """
    resolver = Resolver(data, places)
    resolved = resolver.value(data, (), ())
    if resolver.problems:
        raise RecipeError(in_order(resolver.problems, [each.text for each in places.overrides]))
    assert isinstance(resolved, dict)
    return resolved


class Resolver:
    """One pass over a recipe. `nodes` counts what the result holds: references to mappings multiply."""

    def __init__(self, data: Mapping[str, Any], places: Places) -> None:
        self.data = data
        self.places = places
        self.problems: list[Problem] = []
        self.nodes = 0

    def value(self, value: Any, path: KeyPath, chain: tuple[str, ...]) -> Any:
        """Return a value without references; `chain` holds those being followed."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise RecipeError(self.places.problem(path, f"references make more than {MAX_NODES} values"))
        if isinstance(value, dict):
            return {key: self.value(item, (*path, key), chain) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item, (*path, index), chain) for index, item in enumerate(value)]
        if value == MISSING:
            self.problems.append(self.places.problem(path, "has no value yet", "set it"))
        return self.text(value, path, chain) if isinstance(value, str) else value

    def text(self, text: str, path: KeyPath, chain: tuple[str, ...]) -> Any:
        """Return the value of a whole reference, or the text with the references in it written out."""
        whole = REFERENCE.fullmatch(text)
        if whole:
            return self.follow(whole[1], path, chain)
        pieces, end = [], 0
        for match in REFERENCE.finditer(text):
            pieces += [text[end : match.start()], self.inline(match[1], path, chain)]
            end = match.end()
        written = "".join([*pieces, text[end:]])
        if len(written) > MAX_TEXT:
            raise RecipeError(self.places.problem(path, f"references make more than {MAX_TEXT} characters"))
        return written

    def inline(self, name: str, path: KeyPath, chain: tuple[str, ...]) -> str:
        """Return a referenced value as part of a text."""
        value = self.follow(name, path, chain)
        if isinstance(value, dict | list):
            self.problems.append(self.places.problem(path, f"${{{name}}} is not a single value"))
        return str(value)

    def follow(self, name: str, path: KeyPath, chain: tuple[str, ...]) -> Any:
        """Return the value at a dotted key."""
        if name in chain:
            circle = " -> ".join([*chain[chain.index(name) :], name])
            self.problems.append(self.places.problem(path, f"references lead in a circle: {circle}"))
            return None
        target: Any = self.data
        for part in name.split("."):
            key = int(part) if isinstance(target, list) and part.isdecimal() else part
            try:
                target = target[key]
            except (KeyError, IndexError, TypeError):
                near = did_you_mean(part, target) if isinstance(target, dict) else ""
                self.problems.append(self.places.problem(path, f"${{{name}}}: there is no such key", near))
                return None
        return self.value(target, path, (*chain, name))
